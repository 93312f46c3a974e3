"""How often each character occurs."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from charlstm.text.reading import Characters

NUM_CODE_POINTS = 0x110000
Counts = NDArray[np.int64]  # (NUM_CODE_POINTS,)


def count_characters(pieces: Iterable[Characters]) -> Counts:
    """The occurrences of each code point."""
    counts = np.zeros(NUM_CODE_POINTS, np.int64)
    for piece in pieces:
        found = _count_ascii(piece) if isinstance(piece, bytes) else np.bincount(code_points(piece))
        counts[: len(found)] += found
    return counts


def code_points(text: str) -> NDArray[np.uint32]:
    """The code point of each character (N,)."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def named(counts: Counts, which: NDArray[np.bool_]) -> Counter[str]:
    """The characters among `which` that occur, by name."""
    return Counter({chr(code): int(counts[code]) for code in np.flatnonzero(which & (counts > 0))})


def _count_ascii(piece: bytes) -> NDArray[np.int64]:
    """By pairs of bytes, which is half as many to count as bytes."""
    num_pairs = len(piece) // 2
    pairs = np.bincount(np.frombuffer(piece, np.uint16, num_pairs), minlength=256 * 256).reshape(256, 256)
    counts: NDArray[np.int64] = pairs.sum(axis=0) + pairs.sum(axis=1)
    if len(piece) % 2:
        counts[piece[-1]] += 1
    return counts
