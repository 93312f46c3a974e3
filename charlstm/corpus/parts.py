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
MIN_PART_CHARS = 2  # one to read, one to predict
MAX_CHARACTER_BYTES = 4


class Part(NamedTuple):
    """A contiguous piece of a text, from byte `start` to before byte `end`."""

    start: int
    end: int
    num_chars: int


class Corpus:
    """A map from characters to bytes of a UTF-8 file, without the text."""

    def __init__(self, path: Path, pieces: Iterable[bytes]) -> None:
        """Read all `pieces` of the file at `path`.

        Raises:
            CorpusError: the file is empty or not UTF-8.
        """
        self._path = path
        # Numbers of bytes and of characters before each decoded piece.
        self._bytes = [0]
        self._chars = [0]
        for characters in read_characters(pieces, path):
            self._bytes.append(self._bytes[-1] + len(characters.encode()))
            self._chars.append(self._chars[-1] + len(characters))
        self.num_chars = self._chars[-1]

    def parts(
        self, val_fraction: float, test_fraction: float, separator: str | None
    ) -> dict[str, Part]:
        """Return the parts by name: "train", "val", and "test" unless its fraction is 0.

        The test part is the last `test_fraction` of the characters, validation the `val_fraction`
        before it. With a `separator`, a part begins at its first document, unless less than half
        of the part's bytes would be left: then it begins inside a document.

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
            advice = "another split.val_fraction" if len(parts) == 2 else "other fractions"
            sizes = ", ".join(f"{part.num_chars} {PARTS[name]}" for name, part in parts.items())
            raise CorpusError(
                f"a text of {self.num_chars} characters splits into {sizes}; "
                f"each needs at least {MIN_PART_CHARS}: take a longer text or {advice}"
            )
        return parts

    def _byte_of(self, char: int) -> int:
        """Return the offset of the first byte of a character."""
        index = bisect_right(self._chars, char) - 1
        start = self._bytes[index]
        num_chars = char - self._chars[index]
        pieces = read_pieces(self._path, start, start + MAX_CHARACTER_BYTES * num_chars)
        text = "".join(map(TextReader().read, pieces))
        return start + len(text[:num_chars].encode())

    def _char_of(self, byte: int) -> int:
        """Return the number of characters before the first byte of a character."""
        index = bisect_right(self._bytes, byte) - 1
        pieces = read_pieces(self._path, self._bytes[index], byte)
        return self._chars[index] + sum(map(len, map(TextReader().read, pieces)))


class BadByteError(ValueError):
    """A byte that is invalid in `encoding`. `offset` is its place in the file, from 0."""

    def __init__(self, encoding: str, byte: int, offset: int) -> None:
        self.offset = offset
        expected = "UTF-8" if encoding == "utf-8" else encoding
        super().__init__(f"expected {expected}, found byte 0x{byte:02x} at offset {offset}")


class TextReader:
    """A decoder for the pieces of a text, which may be cut inside characters."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._num_read = 0

    def read(self, piece: bytes, *, is_end: bool = False) -> str:
        """Return the characters that are complete after `piece`. `is_end` marks the last piece.

        Raises:
            BadByteError: a byte is invalid, or the text ends inside a character.
            UnicodeError: a byte-order mark is missing in UTF-16 or UTF-32.
        """
        self._num_read += len(piece)
        try:
            return self._decoder.decode(piece, is_end)
        except UnicodeDecodeError as error:
            # `error.object` also holds the begun character that the decoder kept.
            offset = self._num_read - len(error.object) + error.start
            raise BadByteError(self._encoding, error.object[error.start], offset) from None


def read_characters(pieces: Iterable[bytes], path: Path) -> Iterator[str]:
    """Yield the text of the UTF-8 file `path`, given as all of its bytes, in nonempty strings.

    Raises:
        CorpusError: the file is empty or not UTF-8. The message names the byte, offset and line.
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
        advice = "`dvc repro --force download` re-creates it"
        raise CorpusError(f"{path}: {error} (line {line}); {advice}") from None
    if is_empty:
        raise CorpusError(f"{path}: expected a text, found an empty file")


def line_of(path: Path, offset: int) -> int:
    """Return the line number, from 1, of the byte at `offset`."""
    return 1 + sum(piece.count(b"\n") for piece in read_pieces(path, 0, offset))
