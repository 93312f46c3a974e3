"""The corpus: one UTF-8 text, read without loss and cut into contiguous parts."""

import codecs
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CorpusError
from charlstm.files.pieces import find, read_pieces


class BadByteError(ValueError):
    """A byte that does not belong to a text in `encoding`; `offset` counts from 0."""

    def __init__(self, encoding: str, byte: int, offset: int) -> None:
        self.encoding, self.offset = "UTF-8" if encoding == "utf-8" else encoding, offset
        super().__init__(f"expected {self.encoding}, found byte 0x{byte:02x} at offset {offset}")


class TextReader:
    """Decodes pieces of a text, cut anywhere."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self._encoding, self._decoder = encoding, codecs.getincrementaldecoder(encoding)()
        self._num_read = 0
        self.num_bytes = (
            0  # of the characters so far: the first bytes of another may have been read
        )

    def read(self, piece: bytes, *, is_end: bool = False) -> str:
        """The characters that end in `piece`, which may be the last.

        Raises:
            BadByteError: it is not in the encoding, or the text ends in the middle of a character.
            UnicodeError: nor is it in general: UTF-16 without its mark.
        """
        self._num_read += len(piece)
        try:
            text = self._decoder.decode(piece, is_end)
        except UnicodeDecodeError as error:
            # The decoder may have kept the beginning of a character: it is part of what the error counts in.
            offset = self._num_read - len(error.object) + error.start
            raise BadByteError(self._encoding, error.object[error.start], offset) from None
        self.num_bytes = self._num_read - len(self._decoder.getstate()[0])
        return text


def read_characters(
    pieces: Iterable[bytes], path: Path, reader: TextReader | None = None
) -> Iterator[str]:
    """All characters of UTF-8 in pieces of `path`; none of the results is empty. `reader` knows how far they reach.

    Raises:
        CorpusError: it is empty or not UTF-8 (with the byte, its offset and its line).
    """
    reader = reader or TextReader()
    try:
        for piece in pieces:
            if characters := reader.read(piece):
                yield characters
        reader.read(b"", is_end=True)
    except BadByteError as error:
        line = line_of(path, error.offset)
        raise CorpusError(
            f"{path}: {error} (line {line}); `dvc repro --force download` makes it anew"
        ) from None
    if not reader.num_bytes:
        raise CorpusError(f"{path}: expected a text, found an empty file")


def line_of(path: Path, offset: int) -> int:
    """The line, from 1, of the byte at `offset`."""
    return 1 + sum(piece.count(b"\n") for piece in read_pieces(path, 0, offset))


PARTS = {"train": "for training", "val": "for validation", "test": "for the test"}
MIN_PART_CHARS = 2  # one to read, one to guess
MAX_CHARACTER_BYTES = 4


def read_text(path: Path) -> str:
    """The whole text, newlines and all as they are.

    Raises:
        CorpusError: empty, or not UTF-8 (with the offset of the first bad byte, and its line).
    """
    return "".join(read_characters(read_pieces(path), path))


class Part(NamedTuple):
    """A contiguous piece of a text, from byte `start` to before `end`."""

    start: int
    end: int
    num_chars: int


class Corpus:
    """The places of characters in a UTF-8 file, without their text."""

    def __init__(self, path: Path, pieces: Iterable[bytes]) -> None:
        """Read through all `pieces` of the file at `path`.

        Raises:
            CorpusError: as `read_text`.
        """
        self._path = path
        self._bytes, self._chars = [0], [0]  # how many there are before each piece
        reader = TextReader()
        for piece in read_characters(pieces, path, reader):
            self._bytes.append(reader.num_bytes)
            self._chars.append(self._chars[-1] + len(piece))
        self.num_chars = self._chars[-1]

    def parts(
        self, val_fraction: float, test_fraction: float, separator: str | None
    ) -> dict[str, Part]:
        """The parts by name: "train", "val", and "test" if there is any.

        The test part is the last `test_fraction` of the characters, validation the `val_fraction` before it.
        With a `separator`, a part begins with the next document, if that leaves at least half of its bytes. Else it
        begins where it would without, inside a document.

        Raises:
            CorpusError: a part would have fewer than 2 characters.
        """
        planned = [int(self.num_chars * max(0.0, 1 - (val_fraction + test_fraction)))]
        if test_fraction > 0:
            planned.append(int(self.num_chars * (1 - test_fraction)))
        cuts = [self._byte_of(cut) for cut in planned]
        if separator:
            for index, end in enumerate([*cuts[1:], self._bytes[-1]]):
                start = find(self._path, separator.encode(), cuts[index])
                if start >= 0 and 2 * (end - start) >= end - cuts[index]:
                    cuts[index] = start
        chars = [self._char_of(cut) for cut in cuts]
        bounds = zip(
            [0, *cuts], [*cuts, self._bytes[-1]], [0, *chars], [*chars, self.num_chars], strict=True
        )
        parts = {
            name: Part(start, end, last - first)
            for name, (start, end, first, last) in zip(PARTS, bounds, strict=False)
        }
        if min(part.num_chars for part in parts.values()) < MIN_PART_CHARS:
            advice = "another split.val_fraction" if len(parts) == 2 else "other fractions"
            sizes = ", ".join(f"{part.num_chars} {PARTS[name]}" for name, part in parts.items())
            raise CorpusError(
                f"a text of {self.num_chars} characters splits into {sizes}; "
                f"each needs at least {MIN_PART_CHARS}: take a longer text or {advice}"
            )
        return parts

    def _byte_of(self, char: int) -> int:
        """The byte offset at which a character begins."""
        index = bisect_right(self._chars, char) - 1
        start, num_chars = self._bytes[index], char - self._chars[index]
        reader, pieces = (
            TextReader(),
            read_pieces(self._path, start, start + MAX_CHARACTER_BYTES * num_chars),
        )
        text = "".join(map(reader.read, pieces))
        return start + len(text[:num_chars].encode())

    def _char_of(self, byte: int) -> int:
        """How many characters there are before a byte that begins one."""
        index = bisect_right(self._bytes, byte) - 1
        reader, pieces = TextReader(), read_pieces(self._path, self._bytes[index], byte)
        return self._chars[index] + sum(len(reader.read(piece)) for piece in pieces)
