"""Characters as ids, in pieces, written straight into a `.npy`."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from charlstm.errors import EncodedError
from charlstm.storage.pieces import Advance, write_pieces
from charlstm.text.reading import Characters
from charlstm.text.vocabulary import NUM_CODE_POINTS, UNSEEN, Ids, Vocab, code_points

NUM_ASCII = 128


class Numbering:
    """The id of each code point; what the vocabulary lacks has that of U+FFFD."""

    def __init__(self, vocab: Vocab) -> None:
        self.dtype = vocab.dtype
        self._id_of = np.zeros(NUM_CODE_POINTS, self.dtype)
        self._id_of[:] = max(0, vocab.characters.find(UNSEEN))
        self._id_of[code_points(vocab.characters)] = np.arange(len(vocab))
        self._ascii = self._id_of[:256].astype(np.uint8).tobytes() if self.dtype.itemsize == 1 else None

    def ids(self, piece: Characters) -> Ids:
        """The ids (N,) of N characters."""
        if isinstance(piece, str):
            return np.take(self._id_of, code_points(piece), mode="clip")  # "clip" is faster than to raise
        if self._ascii:
            return np.frombuffer(piece.translate(self._ascii), np.uint8)
        return np.take(self._id_of[:NUM_ASCII], np.frombuffer(piece, np.uint8), mode="clip")


class ByteNumbering:
    """The bytes of characters as UTF-8: their ids where `encode.unit` is byte."""

    dtype = np.dtype(np.uint8)

    def ids(self, piece: Characters) -> Ids:
        """The bytes (N,)."""
        return np.frombuffer(piece.encode() if isinstance(piece, str) else piece, np.uint8)


def write_ids(
    path: Path,
    pieces: Iterable[Characters],
    numbering: Numbering | ByteNumbering,
    num_ids: int,
    advance: Advance | None = None,
) -> str:
    """Write the ids of all characters of `pieces`, of which there are `num_ids`; the file's SHA-256.

    Raises:
        EncodedError: there are more or fewer.
    """
    return write_pieces(path, _npy(path, pieces, numbering, num_ids), advance)


def _npy(
    path: Path, pieces: Iterable[Characters], numbering: Numbering | ByteNumbering, num_ids: int
) -> Iterator[bytes | memoryview]:
    header = io.BytesIO()
    description = {"descr": numbering.dtype.str, "fortran_order": False, "shape": (num_ids,)}
    np.lib.format.write_array_header_1_0(header, description)
    yield header.getvalue()
    num_written = 0
    for piece in pieces:
        ids = numbering.ids(piece)
        num_written += len(ids)
        yield ids.view(np.uint8).data
    if num_written != num_ids:
        raise EncodedError(f"{path}: expected {num_ids} characters, found {num_written}: the text changed meanwhile")
