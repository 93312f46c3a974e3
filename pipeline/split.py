"""Stage split: corpus -> contiguous training, validation and, if configured, test parts."""

import logging
import sys

from charlstm.corpus.parts import PARTS, parts_of, read_characters
from charlstm.errors import CorpusError
from charlstm.files.checksums import SUMS, sums_of, verify, write_digests
from charlstm.files.pieces import find, read_pieces, write_pieces
from charlstm.params import Params
from pipeline.run import stage
from pipeline.run.dvc import Paths

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Split the corpus into contiguous parts that together contain all its characters."""
    section = params.split
    source = paths.corpus
    verify(sums_of(source), [source.name])
    num_chars = sum(map(len, read_characters(read_pieces(source), source)))
    separator = section.document_separator
    parts = parts_of(source, num_chars, section.val_fraction, section.test_fraction, separator)

    if separator and not 0 <= find(source, separator.encode()) < parts["train"].end:
        problem = f"{separator[:50]!r} does not occur in the training part of {source}"
        raise CorpusError(
            f"split.document_separator: {problem}; "
            "set the separator to the text that starts every document, or to null"
        )

    digests = {}
    for name, part in parts.items():
        pieces = read_pieces(source, part.start, part.end)
        digests[f"{name}.txt"] = write_pieces(paths.split / f"{name}.txt", pieces)
    # Without DVC, an earlier run may have left the file of a part that this run does not have.
    for name in PARTS.keys() - parts.keys():
        (paths.split / f"{name}.txt").unlink(missing_ok=True)
    write_digests(paths.split / SUMS, digests)

    sizes = [f"{part.num_chars} {PARTS[name]}" for name, part in parts.items()]
    log.info("characters: %s", ", ".join(sizes))


if __name__ == "__main__":
    sys.exit(stage.run(run))
