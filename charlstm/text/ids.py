"""Which characters have an id, and a text as ids, in pieces, written straight into a `.npy`."""

import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import EncodedError, VocabularyError
from charlstm.files.pieces import Advance, write_pieces
from charlstm.text.corpus import Characters
from charlstm.text.vocabulary import NUM_CODE_POINTS, UNSEEN, Ids, Vocab, code_points, describe

# How often each character occurs.

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


# Which characters have an id: those that the training part has often enough, and U+FFFD in place of all others.


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


# A text as ids.

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
