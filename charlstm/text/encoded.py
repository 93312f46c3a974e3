"""A text as ids: what an id stands for, how many characters some ids are, where documents begin; and its file.

An id stands for a character, or for a byte of the text as UTF-8. There (RFC 3629) a character is one byte, or a first
byte and one to three continuation bytes, 0x80 to 0xBF. So the number of characters is the number of bytes that are no
continuation.

A document begins wherever the separator stands, overlapping ones too. Whether a character begins one is a property of
the few characters from it on. So it is the same for every process, batch and protocol, and no list of beginnings is
kept: that of a long text would not fit into memory.

Shapes: N ids, B rows, T time steps.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import VocabularyError
from charlstm.text.vocabulary import Ids, Unit, Vocab, describe

CHUNK = 2**24  # ids at a time
HASHED_AT_ONCE = 1_000_000  # ids
CHECKED_AT_ONCE = 2**22  # ids; more are checked as they are read, so that loading takes no time


def begins_character(ids: Any, unit: Unit) -> Any:  # noqa: ANN401  # an array of numpy or a tensor, and so is the result
    """Whether a character begins at each of `ids`: booleans of the same shape."""
    return ids == ids if unit == "character" else (ids & 0xC0) != 0x80


def num_chars_of(ids: NDArray[np.generic], unit: Unit) -> int:
    """The number of characters that begin in `ids` (N,)."""
    if unit == "character":
        return len(ids)
    pieces = (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
    return sum(int(np.count_nonzero(begins_character(piece, unit))) for piece in pieces)


class Windows(NamedTuple):
    """Ids to read, the next ids, both int64, and which of those to read begin a document (None: unknown); (B, T)."""

    inputs_BT: NDArray[np.int64]
    targets_BT: NDArray[np.int64]
    starts_BT: NDArray[np.bool_] | None


@dataclass(frozen=True, eq=False)
class EncodedText:
    """The ids (N,) of a text, what each stands for, and the ids with which each document begins; None: one document."""

    ids: Ids
    unit: Unit = "character"
    separator: Ids | None = None

    def __len__(self) -> int:
        """The number of ids."""
        return len(self.ids)

    @property
    def num_chars(self) -> int:
        """The number of characters that begin in it."""
        return num_chars_of(self.ids, self.unit)

    def num_chars_at(self, positions: NDArray[np.integer]) -> int:
        """The number of `positions`, in any shape, where a character begins."""
        return num_chars_of(self.ids[positions].ravel(), self.unit)

    @property
    def first_input(self) -> int:
        """The index of the first character's last id, 0 for characters: all ids after it are of whole characters.

        So it is the first that is read to guess another: a text's first character is not scored.
        """
        begins = begins_character(np.asarray(self.ids[1:5]), self.unit)
        return int(begins.argmax()) if begins.any() else max(0, len(begins))

    def first(self, max_ids: int | None) -> "EncodedText":
        """The first `max_ids` ids, without a last character that may be cut; None: all."""
        ids = self.ids[:max_ids]
        if self.unit == "byte":
            ends = np.flatnonzero(begins_character(np.asarray(ids[-4:]), self.unit))
            last = len(ids) - min(4, len(ids)) + int(ends[-1]) if len(ends) else 0
            byte = int(ids[last])
            num_bytes = (
                1 + (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0)
            )  # of the character that it begins
            ids = ids if len(ids) - last == num_bytes else ids[:last]
        return replace(self, ids=ids)

    def last(self, max_ids: int) -> "EncodedText":
        """The last `max_ids` ids, without a first character that may be cut."""
        ids = self.ids[-max_ids:]
        begins = begins_character(np.asarray(ids[:4]), self.unit)
        return replace(self, ids=ids[int(begins.argmax()) :] if begins.any() else ids)

    def document_starts(self, positions: NDArray[np.integer]) -> NDArray[np.bool_] | None:
        """For each of `positions`, in any shape: does the text go on with all of the separator there?"""
        if self.separator is None:
            return None
        flat = positions.reshape(-1)
        matches = np.flatnonzero(self.ids[flat] == self.separator[0])
        matches = matches[flat[matches] + len(self.separator) <= len(self.ids)]
        for offset, separator_id in enumerate(self.separator[1:], start=1):
            matches = matches[self.ids[flat[matches] + offset] == separator_id]
        starts = np.zeros(len(flat), np.bool_)
        starts[matches] = True
        return starts.reshape(positions.shape)

    def windows(self, positions_BT: NDArray[np.integer]) -> Windows:
        """The ids at `positions_BT`, of which none is the last, and those after them."""
        inputs_BT, targets_BT = (
            self.ids[at].astype(np.int64) for at in (positions_BT, positions_BT + 1)
        )
        return Windows(inputs_BT, targets_BT, self.document_starts(positions_BT))


def separator_ids(separator: str | None, vocab: Vocab) -> Ids | None:
    """The ids of `split.document_separator`, or None if there is none.

    Raises:
        VocabularyError: it has characters that the vocabulary lacks.
    """
    if separator is None:
        return None
    if unknown := vocab.unknown(separator):
        raise VocabularyError(
            f"split.document_separator: {separator[:50]!r} stands nowhere in the encoded training part: the vocabulary "
            f"lacks {describe(unknown)}; give the text with which each document begins, or null"
        )
    return vocab.encode(separator)


def text_sha256(ids: Ids, vocab: Vocab) -> str:
    """The SHA-256 of the text that the ids stand for, as UTF-8."""
    digest = hashlib.sha256()
    for start in range(0, len(ids), HASHED_AT_ONCE):
        digest.update(vocab.utf8_of(ids[start : start + HASHED_AT_ONCE]))
    return digest.hexdigest()
