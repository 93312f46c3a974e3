"""A text as ids of characters or bytes, in memory and in `.npy` files.

An id stands for a character, or for a byte of the text in UTF-8. A UTF-8 character (RFC 3629) is
one byte, or a first byte and one to three continuation bytes (0x80 to 0xBF). So the number of
characters is the number of bytes that are not continuation bytes.

Shapes: N ids.
"""

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import CharlstmError, VocabularyError
from charlstm.files.atomic import write_pieces
from charlstm.files.checksums import SUMS, verify
from charlstm.text.vocabulary import VOCAB, Ids, Unit, Vocab, load_vocab

CHUNK = 2**22  # number of ids to process at a time, which limits memory use


@dataclass(frozen=True, eq=False)
class EncodedText:
    """A text as ids (N,), with an id's unit."""

    ids: Ids
    unit: Unit = "character"

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self.ids)

    @property
    def num_chars(self) -> int:
        """Number of characters whose first id is in the text."""
        return num_chars_of(self.ids, self.unit)

    def num_chars_at(self, positions: NDArray[np.integer]) -> int:
        """Count the `positions` at which a character begins. They may have any shape."""
        return num_chars_of(self.ids[positions].ravel(), self.unit)

    @property
    def first_input(self) -> int:
        """Index of the last id of the first character: 0 for characters, 0 to 3 for bytes.

        This id is the model's first input. So the first character is not scored, and all scored
        characters are whole.
        """
        return self._next_character(1) - 1

    def first(self, max_ids: int | None) -> "EncodedText":
        """Return at most the first `max_ids` ids (None: all). No character is cut at the end."""
        end = len(self) if max_ids is None else min(max_ids, len(self))
        while 0 < end < len(self) and not self._is_character(end):
            end -= 1
        return replace(self, ids=self.ids[:end])

    def last(self, max_ids: int) -> "EncodedText":
        """Return at most the last `max_ids` ids. No character is cut at the beginning."""
        start = self._next_character(max(0, len(self) - max_ids))
        return replace(self, ids=self.ids[start:])

    def _is_character(self, position: int) -> bool:
        return bool(begins_character(self.ids[position : position + 1], self.unit)[0])

    def _next_character(self, position: int) -> int:
        while position < len(self) and not self._is_character(position):
            position += 1
        return position


def begins_character(ids: NDArray[np.integer], unit: Unit) -> NDArray[np.bool_]:
    """Return a mask of the ids at which a character begins, with the shape of `ids`."""
    if unit == "character":
        return np.ones(ids.shape, np.bool_)
    is_first: NDArray[np.bool_] = (ids & 0xC0) != 0x80
    return is_first


def num_chars_of(ids: NDArray[np.integer], unit: Unit) -> int:
    """Return the number of characters whose first id is in `ids` (N,)."""
    if unit == "character":
        return len(ids)
    return sum(int(np.count_nonzero(begins_character(chunk, unit))) for chunk in _chunks(ids))


def text_sha256(ids: Ids, vocab: Vocab) -> str:
    """Return the SHA-256 of the UTF-8 text that the ids encode."""
    digest = hashlib.sha256()
    for chunk in _chunks(ids):
        digest.update(vocab.utf8_of(chunk))
    return digest.hexdigest()


def _chunks(ids: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


def load_parts(
    folder: Path,
    names: Iterable[str],
    *,
    expected: Vocab | None = None,
    is_verified: bool = False,
) -> tuple[Vocab, list[EncodedText]]:
    """Load the vocabulary, and the parts called `names` (train, val or test), from `folder`.

    Args:
        folder: the output folder of stage encode.
        names: the parts to load.
        expected: the vocabulary of the model that will read the parts, if there is one.
        is_verified: True if another process compares the files with their checksums.

    Raises:
        ChecksumError: a file is damaged.
        CharlstmError: a part cannot be read.
        VocabularyError: the vocabulary is missing, damaged or not as expected.
    """
    files = [f"{name}.npy" for name in names]
    if not is_verified:
        verify(folder / SUMS, [*files, VOCAB])
    vocab = load_vocab(folder / VOCAB)
    if expected is not None and vocab != expected:
        raise VocabularyError(
            f"the model and {folder} have different vocabularies; run `dvc repro`"
        )
    return vocab, [load_encoded(folder / file, vocab) for file in files]


def load_encoded(path: Path, vocab: Vocab) -> EncodedText:
    """Return the encoded text in a `.npy` file.

    Raises:
        CharlstmError: the file cannot be read.
    """
    return EncodedText(load_ids(path), vocab.unit)


def load_ids(path: Path) -> Ids:
    """Return the ids (N,) in a `.npy` file as a memory-mapped array.

    Raises:
        CharlstmError: the file is missing or not a `.npy` file.
    """
    try:
        ids: Ids = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CharlstmError(f"{path}: cannot read the encoded text: {reason}") from None
    return ids


def write_ids(path: Path, pieces: Iterable[str], vocab: Vocab, num_ids: int) -> str:
    """Write the ids of a text, given in pieces, to a `.npy` file. Return the file's SHA-256.

    `num_ids` is the number of ids, which the file's header needs in advance.
    """

    def npy() -> Iterator[bytes | memoryview]:
        header = io.BytesIO()
        description = {"descr": vocab.dtype.str, "fortran_order": False, "shape": (num_ids,)}
        np.lib.format.write_array_header_1_0(header, description)
        yield header.getvalue()
        for piece in pieces:
            yield vocab.ids_of(piece).view(np.uint8).data

    return write_pieces(path, npy())
