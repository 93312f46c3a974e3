"""Stage encode: texts -> ids and the vocabulary."""

import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from charlstm.errors import ParamsError
from charlstm.files.atomic import sha256
from charlstm.files.checksums import SUMS, read_sums, verified, write_digests
from charlstm.files.pieces import read_pieces
from charlstm.params import EncodeParams, Params
from charlstm.text.corpus import PARTS, Characters, read_characters
from charlstm.text.ids import Alphabet, ByteNumbering, Counts, Numbering, choose_alphabet, count_characters, write_ids
from charlstm.text.vocabulary import ByteVocab, Vocab, describe
from pipeline.dvc.paths import Paths
from pipeline.provenance import hashes
from pipeline.stage import stage
from pipeline.stage.terminal import progress

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Write all parts as ids: of the training part's characters, by code point, or of the bytes of UTF-8."""
    known = read_sums(paths.split / SUMS)
    names = [name for name in PARTS if name != "test" or f"{name}.txt" in known]
    encode = _encode_bytes if params.encode.unit == "byte" else _encode_characters
    vocab, digests = encode(params.encode, paths, names)
    for name in PARTS.keys() - set(names):  # of a run with other parameters
        (paths.encoded / f"{name}.npy").unlink(missing_ok=True)
    vocab.save(paths.encoded / "vocab.json")
    write_digests(paths.encoded / SUMS, {**digests, "vocab.json": sha256(paths.encoded / "vocab.json")})
    log.info("%d distinct %ss, ids as %s", len(vocab), vocab.unit, vocab.dtype)


def _encode_characters(section: EncodeParams, paths: Paths, names: Sequence[str]) -> tuple[Vocab, dict[str, str]]:
    """Number the training part's characters by code point; the digests of the files."""
    counts = {name: _count(paths.split, name) for name in names}
    others = {name: counts[name] for name in names[1:]}
    may_replace = section.unseen == "replace"
    alphabet = choose_alphabet(counts["train"], others, min_count=section.min_count, may_replace=may_replace)
    _warn(alphabet, section.min_count)
    numbering = Numbering(alphabet.vocab)
    return alphabet.vocab, {f"{name}.npy": _write(paths, name, numbering, counts[name]) for name in names}


def _encode_bytes(section: EncodeParams, paths: Paths, names: Sequence[str]) -> tuple[Vocab, dict[str, str]]:
    """The text itself, read once; the digests of the files.

    Raises:
        ParamsError: `encode.min_count` asks for what bytes cannot be.
    """
    if section.min_count > 1:
        raise ParamsError(
            f"encode.min_count: expected 1 where encode.unit is byte, got {section.min_count}: no byte is too rare; "
            f"set it to 1"
        )
    digests = {}
    for name in names:
        path = paths.split / f"{name}.txt"
        size = path.stat().st_size if path.is_file() else 0
        with progress(f"write {name}.npy", size) as advance:
            pieces = _verified(paths.split, path)
            digests[f"{name}.npy"] = write_ids(paths.encoded / f"{name}.npy", pieces, ByteNumbering(), size, advance)
        hashes.remember(paths.encoded / f"{name}.npy", sha256=digests[f"{name}.npy"])
    return ByteVocab(), digests


def _verified(split: Path, path: Path) -> Iterator[Characters]:
    """All characters; the checksum is compared before the last step of what reads them."""
    with verified(split / SUMS, path.name) as pieces:
        yield from read_characters(pieces, path)


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
    hashes.remember(paths.encoded / f"{name}.npy", sha256=digest)  # so that no stage reads a huge one for it
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
