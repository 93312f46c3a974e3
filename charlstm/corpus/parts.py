"""The parts of a corpus: contiguous pieces of one UTF-8 text, which is read without loss."""

import codecs
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CorpusError
from charlstm.files.pieces import find, read_pieces

PARTS = {"train": "for training", "val": "for validation", "test": "for the test"}
MIN_PART_CHARS = 2  # one character to read and one to predict
MAX_CHARACTER_BYTES = 4


class Part(NamedTuple):
    """A contiguous piece of a text, from byte `start` up to byte `end`, which is excluded."""

    start: int
    end: int
    num_chars: int


class Corpus:
    """An index that maps characters to bytes of a UTF-8 file, without storing the text."""

    def __init__(self, path: Path, pieces: Iterable[bytes]) -> None:
        """Read all `pieces` of the file at `path`.

        Raises:
            CorpusError: the file is empty or not UTF-8.
        """
        self._path = path
        # The number of bytes, and the number of characters, before each decoded piece.
        self._bytes = [0]
        self._chars = [0]
        for characters in read_characters(pieces, path):
            self._bytes.append(self._bytes[-1] + len(characters.encode()))
            self._chars.append(self._chars[-1] + len(characters))
        self.num_chars = self._chars[-1]

    def parts(
        self, val_fraction: float, test_fraction: float, separator: str | None
    ) -> dict[str, Part]:
        """Return the parts by name: "train", "val" and, if `test_fraction` is not 0, "test".

        The test part is the last `test_fraction` of the characters, and the validation part is the
        `val_fraction` before it. With a `separator`, a part begins at its first document. But if
        less than half of the part's bytes would be left, the part begins inside a document.

        Raises:
            CorpusError: a part would have fewer than 2 characters.
        """
        planned = [int(self.num_chars * max(0.0, 1 - (val_fraction + test_fraction)))]
        if test_fraction > 0:
            planned.append(int(self.num_chars * (1 - test_fraction)))
        cuts = [0, *map(self._byte_of, planned), self._bytes[-1]]

        if separator:
            for index, (cut, end) in enumerate(pairwise(cuts[1:]), 1):
                start = find(self._path, separator.encode(), cut)
                if start >= 0 and 2 * (end - start) >= end - cut:
                    cuts[index] = start

        bounds = zip(PARTS, pairwise(cuts), pairwise(map(self._char_of, cuts)), strict=False)
        parts = {name: Part(*place, last - first) for name, place, (first, last) in bounds}
        if min(part.num_chars for part in parts.values()) < MIN_PART_CHARS:
            advice = "split.val_fraction" if len(parts) == 2 else "the fractions in split"
            sizes = ", ".join(f"{part.num_chars} {PARTS[name]}" for name, part in parts.items())
            raise CorpusError(
                f"a text of {self.num_chars} characters splits into {sizes}; "
                f"each part needs at least {MIN_PART_CHARS}: use a longer text or change {advice}"
            )
        return parts

    def _byte_of(self, char: int) -> int:
        """Return the offset of the first byte of the character at index `char`."""
        index = bisect_right(self._chars, char) - 1
        start = self._bytes[index]
        num_chars = char - self._chars[index]
        pieces = read_pieces(self._path, start, start + MAX_CHARACTER_BYTES * num_chars)
        text = "".join(map(TextReader().read, pieces))
        return start + len(text[:num_chars].encode())

    def _char_of(self, byte: int) -> int:
        """Return the number of characters before `byte`, at which a character begins."""
        index = bisect_right(self._bytes, byte) - 1
        pieces = read_pieces(self._path, self._bytes[index], byte)
        return self._chars[index] + sum(map(len, map(TextReader().read, pieces)))


class BadByteError(ValueError):
    """A byte that is invalid in `encoding`. `offset` is its position in the file, from 0."""

    def __init__(self, encoding: str, byte: int, offset: int) -> None:
        self.offset = offset
        expected = "UTF-8" if encoding == "utf-8" else encoding
        super().__init__(f"expected {expected}, found byte 0x{byte:02x} at offset {offset}")


class TextReader:
    """An incremental decoder for a text in pieces, which may end in the middle of a character."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._num_read = 0

    def read(self, piece: bytes, *, is_end: bool = False) -> str:
        """Decode the next piece. Return the characters that are now complete.

        `is_end` marks the last piece.

        Raises:
            BadByteError: a byte is invalid, or the text ends inside a character.
            UnicodeError: a byte-order mark is missing in UTF-16 or UTF-32.
        """
        self._num_read += len(piece)
        try:
            return self._decoder.decode(piece, is_end)
        except UnicodeDecodeError as error:
            # `error.object` begins with the bytes that the decoder kept from earlier pieces.
            offset = self._num_read - len(error.object) + error.start
            raise BadByteError(self._encoding, error.object[error.start], offset) from None


def read_characters(pieces: Iterable[bytes], path: Path) -> Iterator[str]:
    """Decode the pieces of a UTF-8 file and yield its text in nonempty strings.

    Raises:
        CorpusError: the file is empty or not UTF-8. The message has the byte, offset and line.
    """
    reader = TextReader()
    is_empty = True
    try:
        for piece in pieces:
            if characters := reader.read(piece):
                is_empty = False
                yield characters
        reader.read(b"", is_end=True)
    except BadByteError as error:
        line = line_of(path, error.offset)
        advice = "run `dvc repro --force download` to re-create it"
        raise CorpusError(f"{path}: {error} (line {line}); {advice}") from None
    if is_empty:
        raise CorpusError(f"{path}: expected a text, found an empty file")


def line_of(path: Path, offset: int) -> int:
    """Return the number of the line, counted from 1, that has the byte at `offset`."""
    return 1 + sum(piece.count(b"\n") for piece in read_pieces(path, 0, offset))
