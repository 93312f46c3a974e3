"""How often each character occurs."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from charlstm.text.reading import Characters
from charlstm.text.vocabulary import NUM_CODE_POINTS, code_points

Counts = NDArray[np.int64]  # (NUM_CODE_POINTS,)


def count_characters(pieces: Iterable[Characters]) -> Counts:
    """The occurrences of each code point.

    ASCII is counted by pairs of bytes, of which there are half as many.
    """
    counts, pairs = np.zeros(NUM_CODE_POINTS, np.int64), np.zeros(256 * 256, np.int64)
    for piece in pieces:
        if isinstance(piece, str):
            found = np.bincount(code_points(piece))
            counts[: len(found)] += found
        else:
            pairs += np.bincount(np.frombuffer(piece, np.uint16, len(piece) // 2), minlength=256 * 256)
            if len(piece) % 2:
                counts[piece[-1]] += 1
    by_byte = pairs.reshape(256, 256)
    counts[:256] += by_byte.sum(axis=0) + by_byte.sum(axis=1)
    return counts


def named(counts: Counts, which: NDArray[np.bool_]) -> Counter[str]:
    """The characters among `which` that occur, by name."""
    return Counter({chr(code): int(counts[code]) for code in np.flatnonzero(which & (counts > 0))})
