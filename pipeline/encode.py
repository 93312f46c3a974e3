"""Stage encode: texts -> ids and the vocabulary."""

import logging
import sys
from collections.abc import Sequence

from charlstm.params import Params
from charlstm.storage.checksums import SUMS, verify, write_sums
from charlstm.text.byte_vocabulary import ByteVocab
from charlstm.text.corpus import read_text
from charlstm.text.vocabulary import Vocab, describe, replace_unseen, save_ids
from pipeline.common import stage
from pipeline.common.paths import Paths

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Number the training part's characters by code point and write both parts as ids."""
    verify(paths.split / SUMS, ["train.txt", "val.txt"])
    train, val = read_text(paths.split / "train.txt"), read_text(paths.split / "val.txt")
    alphabet = train
    if params.encode.unseen == "replace" and params.encode.unit == "character":
        alphabet, val, unseen = replace_unseen(train, val)
        if unseen:
            log.warning(
                "characters that training never sees became U+FFFD in the validation part: %s", describe(unseen)
            )
    vocab = ByteVocab() if params.encode.unit == "byte" else Vocab.of(alphabet)
    save_ids(paths.encoded / "train.npy", vocab.encode(train))
    save_ids(paths.encoded / "val.npy", vocab.encode(val))
    vocab.save(paths.encoded / "vocab.json")
    write_sums(paths.encoded / SUMS, ["train.npy", "val.npy", "vocab.json"])
    log.info("%d distinct %ss, ids as %s", len(vocab), vocab.unit, vocab.dtype)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    return stage.run(run, argv)


if __name__ == "__main__":
    sys.exit(main())
