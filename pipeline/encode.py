"""Stage encode: parts of the corpus -> ids, vocabulary."""

import logging
from collections.abc import Mapping
from pathlib import Path

from charlstm.corpus.parts import PARTS, read_characters
from charlstm.files.atomic import read_pieces
from charlstm.files.checksums import SUMS, read_sums, sha256, verify, write_digests
from charlstm.params import Params
from charlstm.text.alphabet import Alphabet, choose_alphabet, count_characters
from charlstm.text.encoded import write_ids
from charlstm.text.vocabulary import VOCAB, ByteVocab, Vocab, describe
from pipeline.run.stage import Stage

log = logging.getLogger("charlstm")


def run(stage: Stage) -> None:
    """Encode all parts with the vocabulary of the training part, or as UTF-8 bytes."""
    params = stage.params
    paths = stage.paths
    sums = paths.split / SUMS
    known = read_sums(sums)
    names = [name for name in PARTS if name != "test" or f"{name}.txt" in known]
    parts = {name: paths.split / f"{name}.txt" for name in names}
    verify(sums, [path.name for path in parts.values()])
    vocab: Vocab = ByteVocab()
    num_ids = {name: path.stat().st_size for name, path in parts.items()}
    if params.encode.unit == "character":
        vocab, num_ids = _characters(params, parts)

    digests = {}
    for name, path in parts.items():
        target = paths.encoded / f"{name}.npy"
        characters = read_characters(read_pieces(path), path)
        digests[target.name] = write_ids(target, characters, vocab, num_ids[name])
    vocab.save(paths.encoded / VOCAB)
    write_digests(paths.encoded / SUMS, {**digests, VOCAB: sha256(paths.encoded / VOCAB)})
    log.info("%d distinct %ss, ids as %s", len(vocab), vocab.unit, vocab.dtype)


def _characters(params: Params, parts: Mapping[str, Path]) -> tuple[Vocab, dict[str, int]]:
    """Return the vocabulary of the training part, and the number of characters in each part."""
    counts = {
        name: count_characters(read_characters(read_pieces(path), path))
        for name, path in parts.items()
    }
    alphabet = choose_alphabet(
        counts,
        min_count=params.encode.min_count,
        may_replace=params.encode.unseen == "replace",
    )
    _warn(alphabet, params.encode.min_count)
    return alphabet.vocab, {name: int(found.sum()) for name, found in counts.items()}


def _warn(alphabet: Alphabet, min_count: int) -> None:
    rare = alphabet.rare
    if rare:
        log.warning(
            "characters with fewer than %d occurrences in training became U+FFFD: %d of them, "
            "with %d occurrences there: %s",
            min_count,
            len(rare),
            rare.total(),
            describe(rare),
        )
    for name, unseen in alphabet.unseen.items():
        if unseen:
            log.warning(
                "characters that training never sees became U+FFFD in the %s part: %s",
                {"val": "validation"}.get(name, name),
                describe(unseen),
            )
