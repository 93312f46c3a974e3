"""Stage split: corpus -> contiguous training, validation and, if wanted, test parts."""

import logging
import sys

from charlstm.corpus.parts import PARTS, Corpus
from charlstm.errors import CorpusError
from charlstm.files.checksums import SUMS, sums_of, verify, write_digests
from charlstm.files.pieces import find, read_pieces, write_pieces
from charlstm.params import Params
from pipeline.run import stage
from pipeline.run.dvc import Paths
from pipeline.run.terminal import progress

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Cut the corpus, by characters and without loss."""
    section, source = params.split, paths.corpus
    num_bytes = source.stat().st_size if source.is_file() else 0
    verify(sums_of(source), [source.name])
    with progress("count", num_bytes) as advance:
        corpus = Corpus(source, read_pieces(source, advance=advance))
    separator = section.document_separator
    parts = corpus.parts(section.val_fraction, section.test_fraction, separator)
    end = parts["train"].end
    if separator and not 0 <= find(source, separator.encode()) < end:
        raise CorpusError(
            f"split.document_separator: {separator[:50]!r} stands nowhere in the training part of {source}; give the "
            "text with which each document begins, or null"
        )
    with progress("write", num_bytes) as advance:
        digests = {
            f"{name}.txt": write_pieces(
                paths.split / f"{name}.txt", read_pieces(source, part.start, part.end, advance)
            )
            for name, part in parts.items()
        }
    for name in PARTS.keys() - parts.keys():  # of a run with other parameters
        (paths.split / f"{name}.txt").unlink(missing_ok=True)
    write_digests(paths.split / SUMS, digests)
    sizes = [f"{part.num_chars} {PARTS[name]}" for name, part in parts.items()]
    log.info("%s", ", ".join([sizes[0].replace(" ", " characters ", 1), *sizes[1:]]))


if __name__ == "__main__":
    sys.exit(stage.run(run))
