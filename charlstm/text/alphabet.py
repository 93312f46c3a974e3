"""Which characters have an id: those that the training part has often enough, and U+FFFD in place of all others."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import VocabularyError
from charlstm.text.vocabulary import NUM_CODE_POINTS, UNSEEN, Counts, Vocab, code_points, describe


def count_characters(pieces: Iterable[str]) -> Counts:
    """The occurrences of each code point.

    ASCII is counted by pairs of bytes, of which there are half as many.
    """
    counts, pairs = np.zeros(NUM_CODE_POINTS, np.int64), np.zeros((256, 256), np.int64)
    for piece in pieces:
        if piece.isascii() and len(piece) % 2 == 0:
            pairs += np.bincount(
                np.frombuffer(piece.encode(), np.uint16), minlength=256 * 256
            ).reshape(256, 256)
        else:
            found = np.bincount(code_points(piece))
            counts[: len(found)] += found
    counts[:256] += pairs.sum(axis=0) + pairs.sum(axis=1)
    return counts


def named(counts: Counts, which: NDArray[np.bool_]) -> Counter[str]:
    """The characters among `which` that occur, by name."""
    return Counter({chr(code): int(counts[code]) for code in np.flatnonzero(which & (counts > 0))})


class Alphabet(NamedTuple):
    """The vocabulary, and what becomes U+FFFD: in all parts, since it is rare, and in each part, since it is unseen."""

    vocab: Vocab
    rare: Counter[str]
    unseen: dict[str, Counter[str]]


def choose_alphabet(
    train: Counts,
    others: Mapping[str, Counts],
    *,
    min_count: int,
    may_replace: bool,
    never_rare: str = "",
) -> Alphabet:
    """The vocabulary for a training part and the `others`, which it does not decide, by name.

    Characters of the training part that occur fewer than `min_count` times are rare: they become U+FFFD everywhere, but
    for those of `never_rare`, e.g. what separates a few documents.
    So do, if they may be replaced, those that only the others have. U+FFFD joins the vocabulary only where it stands
    for something. It is scored like every other character: a model that never saw one pays for it.

    Raises:
        VocabularyError: the others have characters that may not be replaced, or every character is rare.
    """
    is_rare = (train > 0) & (train < min_count)
    is_rare[[ord(one) for one in never_rare + UNSEEN]] = False
    rare = named(train, is_rare)
    is_known = (train > 0) & ~is_rare
    if not is_known.any():
        raise VocabularyError(
            f"encode.min_count: every character of the training part occurs fewer than {min_count} times; lower it"
        )
    is_known[ord(UNSEEN)] |= bool(rare)
    unseen = {name: named(counts, ~is_known & ~is_rare) for name, counts in others.items()}
    if not may_replace and (lacking := sum(unseen.values(), Counter[str]())):
        raise VocabularyError(
            f"the vocabulary of {is_known.sum()} characters lacks {describe(lacking)}"
        )
    is_known[ord(UNSEEN)] |= any(unseen.values())
    return Alphabet(Vocab("".join(map(chr, np.flatnonzero(is_known)))), rare, unseen)
