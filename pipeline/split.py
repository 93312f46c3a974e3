"""Stage split: corpus -> contiguous training and validation parts."""

import logging
import sys
from collections.abc import Sequence

from charlstm.params import Params
from charlstm.storage.checksums import SUMS, sums_of, verify, write_sums
from charlstm.storage.files import write_text
from charlstm.text.corpus import read_text, split_text
from pipeline.common import stage
from pipeline.common.paths import Paths

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Cut the corpus in two, by characters and without loss."""
    verify(sums_of(paths.corpus), [paths.corpus.name])
    train, val = split_text(read_text(paths.corpus), params.split.val_fraction)
    write_text(paths.split / "train.txt", train)
    write_text(paths.split / "val.txt", val)
    write_sums(paths.split / SUMS, ["train.txt", "val.txt"])
    log.info("%d characters for training, %d for validation", len(train), len(val))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    return stage.run(run, argv)


if __name__ == "__main__":
    sys.exit(main())
