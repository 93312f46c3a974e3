"""Stage split: corpus -> contiguous training, validation and, if configured, test parts."""

import logging

from charlstm.corpus.parts import PARTS, parts_of
from charlstm.files.atomic import read_pieces, write_pieces
from charlstm.files.checksums import SUMS, sums_of, verify, write_digests
from pipeline.run.stage import Stage

log = logging.getLogger("charlstm")


def run(stage: Stage) -> None:
    """Split the corpus into contiguous parts that together contain all its characters."""
    paths = stage.paths
    section = stage.params.split
    source = paths.corpus
    verify(sums_of(source), [source.name])
    parts = parts_of(source, section.val_fraction, section.test_fraction)

    digests = {}
    for name, part in parts.items():
        pieces = read_pieces(source, part.start, part.end)
        digests[f"{name}.txt"] = write_pieces(paths.split / f"{name}.txt", pieces)
    write_digests(paths.split / SUMS, digests)

    sizes = [f"{part.num_chars} {PARTS[name]}" for name, part in parts.items()]
    log.info("characters: %s", ", ".join(sizes))
