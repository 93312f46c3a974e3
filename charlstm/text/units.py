"""What an id stands for: a character, or a byte of the text as UTF-8; and how many characters some ids are.

In UTF-8 (RFC 3629) a character is one byte, or a first byte and one to three continuation bytes, 0x80 to 0xBF. So the
number of characters is the number of bytes that are no continuation.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Unit = Literal["character", "byte"]
CHUNK = 2**24  # ids at a time
LAST_CONTINUATION = np.int8(-65)  # 0xBF as a signed byte: continuations are the lowest of those


def begins_character(ids: Any, unit: Unit) -> Any:  # noqa: ANN401  # an array of numpy or a tensor, and so is the result
    """Whether a character begins at each of `ids`: booleans of the same shape."""
    return ids == ids if unit == "character" else (ids & 0xC0) != 0x80


def num_chars_of(ids: NDArray[np.generic], unit: Unit) -> int:
    """The number of characters that begin in `ids` (N,)."""
    if unit == "character":
        return len(ids)
    signed = ids.astype(np.uint8, copy=False).view(np.int8)
    pieces = (signed[start : start + CHUNK] for start in range(0, len(signed), CHUNK))
    return sum(int(np.count_nonzero(piece > LAST_CONTINUATION)) for piece in pieces)


def end_of_first(ids: NDArray[np.generic], unit: Unit) -> int:
    """The index of the last id of the first character, 0 for characters: what follows is whole characters."""
    begins = begins_character(np.asarray(ids[1:5]), unit)
    return int(begins.argmax()) if begins.any() else max(0, len(begins))


def whole_characters(ids: NDArray[np.unsignedinteger], unit: Unit) -> NDArray[np.unsignedinteger]:
    """`ids`, the beginning of a text, without a last character that may be cut."""
    if unit == "character":
        return ids
    ends = np.flatnonzero(begins_character(np.asarray(ids[-4:]), unit))
    last = len(ids) - min(4, len(ids)) + int(ends[-1]) if len(ends) else 0
    return ids if len(ids) - last == _num_bytes(int(ids[last])) else ids[:last]


def from_whole_character(ids: NDArray[np.unsignedinteger], unit: Unit) -> NDArray[np.unsignedinteger]:
    """`ids`, the end of a text, without a first character that may be cut."""
    begins = begins_character(np.asarray(ids[:4]), unit)
    return ids[int(begins.argmax()) :] if begins.any() else ids


def _num_bytes(first: int) -> int:
    """Of the character that a byte begins."""
    return 1 + (first >= 0xC0) + (first >= 0xE0) + (first >= 0xF0)
