"""Which characters have an id: those that the training part has often enough, and U+FFFD in place of all others."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from charlstm.errors import VocabularyError
from charlstm.text.counting import Counts, named
from charlstm.text.vocabulary import UNSEEN, Vocab, describe


class Alphabet(NamedTuple):
    """The vocabulary, and what becomes U+FFFD: in all parts, since it is rare, and in each part, since it is unseen."""

    vocab: Vocab
    rare: Counter[str]
    unseen: dict[str, Counter[str]]


def choose_alphabet(train: Counts, others: Mapping[str, Counts], *, min_count: int, may_replace: bool) -> Alphabet:
    """The vocabulary for a training part and the `others`, which it does not decide, by name.

    Characters of the training part that occur fewer than `min_count` times are rare: they become U+FFFD everywhere.
    So do, if they may be replaced, those that only the others have. U+FFFD joins the vocabulary only where it stands
    for something. It is scored like every other character: a model that never saw one pays for it.

    Raises:
        VocabularyError: the others have characters that may not be replaced, or every character is rare.
    """
    is_rare = (train > 0) & (train < min_count)
    is_rare[ord(UNSEEN)] = False
    rare = named(train, is_rare)
    is_known = (train > 0) & ~is_rare
    if not is_known.any():
        raise VocabularyError(
            f"encode.min_count: every character of the training part occurs fewer than {min_count} times; lower it"
        )
    is_known[ord(UNSEEN)] |= bool(rare)
    unseen = {name: named(counts, ~is_known & ~is_rare) for name, counts in others.items()}
    if not may_replace and (lacking := sum(unseen.values(), Counter[str]())):
        raise VocabularyError(f"the vocabulary of {is_known.sum()} characters lacks {describe(lacking)}")
    is_known[ord(UNSEEN)] |= any(unseen.values())
    return Alphabet(Vocab("".join(map(chr, np.flatnonzero(is_known)))), rare, unseen)
