"""The choice of characters that get an id. All other characters become U+FFFD."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import VocabularyError
from charlstm.text.vocabulary import NUM_CODE_POINTS, UNSEEN, Counts, Vocab, code_points, describe


class Alphabet(NamedTuple):
    """A vocabulary, and the characters that U+FFFD replaces, with their counts."""

    vocab: Vocab
    rare: Counter[str]  # rare in the training part and replaced in all parts
    unseen: dict[str, Counter[str]]  # for each other part: characters that the training part lacks


def choose_alphabet(
    counts: Mapping[str, Counts],
    *,
    min_count: int,
    may_replace: bool,
) -> Alphabet:
    """Choose the vocabulary from the character counts of the part "train" and the other parts.

    Characters that occur fewer than `min_count` times in the training part are rare and become
    U+FFFD in all parts. Characters that only the other parts have also become U+FFFD if
    `may_replace` is true.

    U+FFFD joins the vocabulary only if it replaces a character. It is scored like any other
    character, so it raises the loss of a model that never saw it in training.

    Raises:
        VocabularyError: other parts have characters that may not be replaced, or all characters are
            rare.
    """
    train = counts["train"]
    is_rare = (train > 0) & (train < min_count)
    is_rare[ord(UNSEEN)] = False
    rare = _counted(train, is_rare)
    is_known = (train > 0) & ~is_rare
    if not is_known.any():
        raise VocabularyError(
            f"encode.min_count: every character of the training part occurs fewer than {min_count} "
            f"times; lower encode.min_count"
        )

    is_known[ord(UNSEEN)] |= bool(rare)
    unseen = {
        name: _counted(found, ~is_known & ~is_rare)
        for name, found in counts.items()
        if name != "train"
    }
    lacking = sum(unseen.values(), Counter[str]())
    if lacking and not may_replace:
        raise VocabularyError(
            f"the vocabulary of {is_known.sum()} characters lacks {describe(lacking)}; "
            f"set encode.unseen to 'replace', or choose another text"
        )
    is_known[ord(UNSEEN)] |= bool(lacking)
    return Alphabet(Vocab("".join(map(chr, np.flatnonzero(is_known)))), rare, unseen)


def count_characters(pieces: Iterable[str]) -> Counts:
    """Count each code point in a text that is given in pieces."""
    counts = np.zeros(NUM_CODE_POINTS, np.int64)
    for piece in pieces:
        found = np.bincount(code_points(piece))
        counts[: len(found)] += found
    return counts


def _counted(counts: Counts, is_selected: NDArray[np.bool_]) -> Counter[str]:
    codes = np.flatnonzero(is_selected & (counts > 0))
    return Counter({chr(code): int(counts[code]) for code in codes})
