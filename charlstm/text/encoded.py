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
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import EncodedError, VocabularyError
from charlstm.files.checksums import SUMS, verify
from charlstm.files.pieces import write_pieces
from charlstm.text.vocabulary import VOCAB, Ids, Unit, Vocab, describe, load_vocab

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
            num_bytes = 1 + (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0)  # of the character that it begins
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
        inputs_BT, targets_BT = (self.ids[at].astype(np.int64) for at in (positions_BT, positions_BT + 1))
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


# The file of a text's ids: a `.npy`, written in pieces and read where it lies.


def load_parts(
    folder: Path,
    names: Iterable[str],
    *,
    separator: str | None = None,
    expected: Vocab | None = None,
) -> tuple[Vocab, list[EncodedText]]:
    """The vocabulary and the parts with these `names` (train, val, test), from the folder that stage encode wrote.

    `expected` is the vocabulary of a model that is to read them.

    Raises:
        ChecksumError: a file is damaged or missing.
        EncodedError: as `load_ids`.
        VocabularyError: the vocabulary is damaged or not the expected one, or lacks characters of the separator.
    """
    files = [f"{name}.npy" for name in names]
    verify(folder / SUMS, [*files, VOCAB])
    vocab = load_vocab(folder / VOCAB)
    if expected is not None and vocab != expected:
        raise VocabularyError(f"the model and {folder} have different vocabularies; run `dvc repro`")
    return vocab, [load_encoded(folder / file, vocab, separator) for file in files]


def load_encoded(path: Path, vocab: Vocab, separator: str | None = None) -> EncodedText:
    """The text that `write_ids` wrote, with `split.document_separator`.

    Raises:
        EncodedError: as `load_ids`.
        VocabularyError: the separator has characters that the vocabulary lacks.
    """
    return EncodedText(load_ids(path, len(vocab)), vocab.unit, separator_ids(separator, vocab))


def load_ids(path: Path, vocab_size: int) -> Ids:
    """Ids (N,) of unsigned dtype, memory-mapped: none is read but the first CHECKED_AT_ONCE, which are compared with
    `vocab_size`. A reader of the others checks what it reads (`check_fit`).

    Raises:
        EncodedError: missing, not a `.npy` of ids, or an id that is not below `vocab_size`.
    """
    try:
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise EncodedError(f"{path}: cannot read encoded text: {error.strerror or error}") from None
    except (ValueError, EOFError):
        raise EncodedError(f"{path}: expected a .npy array of ids, found something else or a cut file") from None
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind != "u" or len(ids) < 2:
        kind = f"{ids.dtype} of shape {ids.shape}" if isinstance(ids, np.ndarray) else type(ids).__name__
        raise EncodedError(f"{path}: expected at least 2 unsigned ids in one dimension, found {kind}")
    try:
        check_fit(ids[:CHECKED_AT_ONCE], vocab_size)
    except EncodedError as error:
        raise EncodedError(f"{path}: {error}") from None
    return ids


def check_fit(ids: NDArray[np.integer], vocab_size: int) -> None:
    """Refuse ids that stand for no character.

    Raises:
        EncodedError: an id is not below `vocab_size`.
    """
    if (largest := int(ids.max(initial=0))) >= vocab_size:
        raise EncodedError(f"id {largest} does not fit the vocabulary of {vocab_size} characters")


def write_ids(path: Path, pieces: Iterable[str], vocab: Vocab, num_ids: int) -> str:
    """Write the ids of all characters of `pieces`, of which there are `num_ids`; the file's SHA-256.

    Raises:
        EncodedError: there are more or fewer.
    """

    def npy() -> Iterator[bytes | memoryview]:
        header = io.BytesIO()
        description = {"descr": vocab.dtype.str, "fortran_order": False, "shape": (num_ids,)}
        np.lib.format.write_array_header_1_0(header, description)
        yield header.getvalue()
        num_written = 0
        for piece in pieces:
            ids = vocab.ids_of(piece)
            num_written += len(ids)
            yield ids.view(np.uint8).data
        if num_written != num_ids:
            raise EncodedError(f"{path}: expected {num_ids} ids, found {num_written}: the text changed meanwhile")

    return write_pieces(path, npy())


def text_sha256(ids: Ids, vocab: Vocab) -> str:
    """The SHA-256 of the text that the ids stand for, as UTF-8."""
    digest = hashlib.sha256()
    for start in range(0, len(ids), HASHED_AT_ONCE):
        digest.update(vocab.utf8_of(ids[start : start + HASHED_AT_ONCE]))
    return digest.hexdigest()
