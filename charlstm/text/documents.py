"""Where the documents of a text begin: wherever a separator stands, overlapping ones too.

Whether a character begins a document is a property of the few characters from it on. So it is the same for every
process, batch and protocol, and no list of beginnings is kept: that of a long text would not fit into memory.
"""

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import VocabularyError
from charlstm.text.vocabulary import Ids, Vocab, describe

MAX_SEARCHED = 100_000_000  # characters
CHUNK = 1_000_000


def document_starts(ids: Ids, positions: NDArray[np.integer], separator: Ids) -> NDArray[np.bool_]:
    """For each of `positions` in `ids`, in any shape: does the text go on with all of `separator` (1 or more) there?"""
    flat = positions.reshape(-1)
    found = np.flatnonzero(ids[flat] == separator[0])
    found = found[flat[found] + len(separator) <= len(ids)]
    for offset, one in enumerate(separator[1:], start=1):
        found = found[ids[flat[found] + offset] == one]
    starts = np.zeros(len(flat), np.bool_)
    starts[found] = True
    return starts.reshape(positions.shape)


def separator_ids(separator: str | None, vocab: Vocab) -> Ids | None:
    """The ids of `split.document_separator`, or None if there is none.

    Raises:
        VocabularyError: it has characters that the vocabulary lacks.
    """
    if separator is None:
        return None
    if unknown := vocab.unknown(separator):
        raise VocabularyError(f"{_nowhere(separator)}: the vocabulary lacks {describe(unknown)}; {ADVICE}")
    return vocab.encode(separator)


def doubt_of(separator: str, ids: Ids, train_ids: Ids) -> str | None:
    """A warning if `separator`, whose ids are `ids`, is not in the first `MAX_SEARCHED` characters of a longer text.

    Raises:
        VocabularyError: it is not in the training part, and that was searched to its end.
    """
    num_searched = min(len(train_ids), MAX_SEARCHED)
    for start in range(0, num_searched, CHUNK):
        if document_starts(train_ids, np.arange(start, min(start + CHUNK, num_searched)), ids).any():
            return None
    if num_searched < len(train_ids):
        return (
            f"split.document_separator: {separator[:50]!r} does not occur in the first {num_searched:,} characters of "
            f"the training part; if it occurs nowhere, it has no effect"
        )
    raise VocabularyError(f"{_nowhere(separator)}; {ADVICE}")


ADVICE = "give the text with which each document begins, or null"


def _nowhere(separator: str) -> str:
    return f"split.document_separator: {separator[:50]!r} stands nowhere in the encoded training part"
