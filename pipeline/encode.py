"""Stage encode: texts -> ids and the vocabulary."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from charlstm.params import Params
from charlstm.storage.checksums import SUMS, read_sums, write_digests
from charlstm.storage.files import sha256
from charlstm.storage.pieces import read_pieces
from charlstm.storage.verified import verified
from charlstm.text.alphabet import Alphabet, choose_alphabet
from charlstm.text.corpus import PARTS
from charlstm.text.counting import Counts, count_characters
from charlstm.text.ids import Numbering, write_ids
from charlstm.text.reading import read_characters
from charlstm.text.vocabulary import describe
from pipeline.common import known_hashes, stage
from pipeline.common.paths import Paths
from pipeline.common.progress import progress

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Number the training part's characters by code point and write all parts as ids."""
    section = params.encode
    known = read_sums(paths.split / SUMS)
    names = [name for name in PARTS if name != "test" or f"{name}.txt" in known]
    counts = {name: _count(paths.split, name) for name in names}
    others = {name: counts[name] for name in names[1:]}
    may_replace = section.unseen == "replace"
    alphabet = choose_alphabet(counts["train"], others, min_count=section.min_count, may_replace=may_replace)
    _warn(alphabet, section.min_count)
    numbering = Numbering(alphabet.vocab)
    digests = {f"{name}.npy": _write(paths, name, numbering, counts[name]) for name in names}
    for name in PARTS.keys() - counts.keys():  # of a run with other parameters
        (paths.encoded / f"{name}.npy").unlink(missing_ok=True)
    alphabet.vocab.save(paths.encoded / "vocab.json")
    write_digests(paths.encoded / SUMS, {**digests, "vocab.json": sha256(paths.encoded / "vocab.json")})
    log.info("%d distinct characters, ids as %s", len(alphabet.vocab), numbering.dtype)


def _count(split: Path, name: str) -> Counts:
    path = split / f"{name}.txt"
    with (
        progress(f"count {path.name}", path.stat().st_size if path.is_file() else 0) as advance,
        verified(split / SUMS, path.name, advance) as pieces,
    ):
        return count_characters(read_characters(pieces, path))


def _write(paths: Paths, name: str, numbering: Numbering, counts: Counts) -> str:
    path, num_ids = paths.split / f"{name}.txt", int(counts.sum())
    with progress(f"write {name}.npy", num_ids * numbering.dtype.itemsize) as advance:
        pieces = read_characters(read_pieces(path), path)
        digest = write_ids(paths.encoded / f"{name}.npy", pieces, numbering, num_ids, advance)
    known_hashes.remember(paths.encoded / f"{name}.npy", sha256=digest)  # so that no stage reads a huge one for it
    return digest


def _warn(alphabet: Alphabet, min_count: int) -> None:
    if alphabet.rare:
        log.warning(
            "characters with fewer than %d occurrences in training became U+FFFD: %d of them, %d times there: %s",
            min_count, len(alphabet.rare), alphabet.rare.total(), describe(alphabet.rare),
        )  # fmt: skip
    for name, unseen in alphabet.unseen.items():
        if unseen:
            part = {"val": "validation"}.get(name, name)
            log.warning("characters that training never sees became U+FFFD in the %s part: %s", part, describe(unseen))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stage; its exit code."""
    return stage.run(run, argv)


if __name__ == "__main__":
    sys.exit(main())
