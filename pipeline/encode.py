"""Stage encode: texts -> ids and the vocabulary."""

import logging
import sys
from collections.abc import Mapping
from pathlib import Path

from charlstm.corpus.parts import PARTS, read_characters
from charlstm.files.checksums import SUMS, read_sums, sha256, verify, write_digests
from charlstm.files.pieces import read_pieces
from charlstm.params import Params
from charlstm.text.alphabet import Alphabet, choose_alphabet, count_characters
from charlstm.text.byte_vocabulary import ByteVocab
from charlstm.text.encoded_files import write_ids
from charlstm.text.vocabulary import Vocab, describe
from charlstm.text.vocabulary_file import VOCAB
from pipeline.run import stage
from pipeline.run.dvc import Paths
from pipeline.run.terminal import progress

log = logging.getLogger("charlstm")


def run(params: Params, paths: Paths) -> None:
    """Write all parts as ids: of the training part's characters, by code point, or of the bytes of UTF-8."""
    known = read_sums(paths.split / SUMS)
    parts = {
        name: paths.split / f"{name}.txt"
        for name in PARTS
        if name != "test" or f"{name}.txt" in known
    }
    verify(paths.split / SUMS, [path.name for path in parts.values()])
    sizes = {name: _size(path) for name, path in parts.items()}
    vocab, num_ids = (
        (ByteVocab(), sizes) if params.encode.unit == "byte" else _characters(params, parts)
    )
    digests = {}
    for name, path in parts.items():
        target = paths.encoded / f"{name}.npy"
        with progress(f"write {target.name}", sizes[name]) as advance:
            characters = read_characters(read_pieces(path, advance=advance), path)
            digests[target.name] = write_ids(target, characters, vocab, num_ids[name])
    for name in PARTS.keys() - parts.keys():  # of a run with other parameters
        (paths.encoded / f"{name}.npy").unlink(missing_ok=True)
    vocab.save(paths.encoded / VOCAB)
    write_digests(paths.encoded / SUMS, {**digests, VOCAB: sha256(paths.encoded / VOCAB)})
    log.info("%d distinct %ss, ids as %s", len(vocab), vocab.unit, vocab.dtype)


def _characters(params: Params, parts: Mapping[str, Path]) -> tuple[Vocab, dict[str, int]]:
    """The vocabulary of the training part, by code point, and the number of characters in each part."""
    counts = {}
    for name, path in parts.items():
        with progress(f"count {path.name}", _size(path)) as advance:
            counts[name] = count_characters(
                read_characters(read_pieces(path, advance=advance), path)
            )
    others = {name: counts[name] for name in list(parts)[1:]}
    alphabet = choose_alphabet(
        counts["train"],
        others,
        min_count=params.encode.min_count,
        may_replace=params.encode.unseen == "replace",
        never_rare=params.split.document_separator or "",
    )
    _warn(alphabet, params.encode.min_count)
    return alphabet.vocab, {name: int(found.sum()) for name, found in counts.items()}


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0  # the reader says that it is missing


def _warn(alphabet: Alphabet, min_count: int) -> None:
    if alphabet.rare:
        log.warning(
            "characters with fewer than %d occurrences in training became U+FFFD: %d of them, %d times there: %s",
            min_count, len(alphabet.rare), alphabet.rare.total(), describe(alphabet.rare),
        )  # fmt: skip
    for name, unseen in alphabet.unseen.items():
        if unseen:
            part = {"val": "validation"}.get(name, name)
            log.warning(
                "characters that training never sees became U+FFFD in the %s part: %s",
                part,
                describe(unseen),
            )


if __name__ == "__main__":
    sys.exit(stage.run(run))
