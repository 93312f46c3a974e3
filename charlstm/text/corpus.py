"""The corpus: one UTF-8 text, read without loss and cut into contiguous parts."""

import codecs
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CorpusError
from charlstm.files.pieces import find_all, read_pieces

# UTF-8 in pieces as characters. Pieces of ASCII stay bytes, which is many times faster; others are decoded.

Characters = bytes | str  # bytes where all are ASCII; the length is the number of characters in both


class BadByteError(ValueError):
    """A byte that does not belong to a text in `encoding`; `offset` counts from 0."""

    def __init__(self, encoding: str, byte: int, offset: int) -> None:
        super().__init__(f"expected {encoding}, found byte 0x{byte:02x} at offset {offset}")
        self.encoding, self.offset = encoding, offset


class Utf8Reader:
    """Turns pieces of UTF-8, cut anywhere, into whole characters."""

    def __init__(self) -> None:
        self._rest = b""  # the beginning of a character whose end is in the next piece
        self.num_bytes = 0  # of the characters so far

    def read(self, piece: bytes) -> Characters:
        """The characters that end in `piece`.

        Raises:
            BadByteError: it is not UTF-8.
        """
        if not self._rest and piece.isascii():
            self.num_bytes += len(piece)
            return piece
        return self._decode(self._rest + piece, is_end=False)

    def end(self) -> None:
        """Raise `BadByteError` if the text ends in the middle of a character."""
        self._decode(self._rest, is_end=True)

    def _decode(self, content: bytes, is_end: bool) -> str:
        try:
            text, num_used = codecs.utf_8_decode(content, "strict", is_end)
        except UnicodeDecodeError as error:
            raise BadByteError("UTF-8", content[error.start], self.num_bytes + error.start) from None
        self._rest = content[num_used:]
        self.num_bytes += num_used
        return text


def read_characters(pieces: Iterable[bytes], path: Path, reader: Utf8Reader | None = None) -> Iterator[Characters]:
    """All characters of UTF-8 in pieces of `path`; none of the results is empty. `reader` knows how far they reach.

    Raises:
        CorpusError: it is missing, empty or not UTF-8 (with the byte, its offset and its line).
    """
    reader = reader or Utf8Reader()
    try:
        for piece in pieces:
            if characters := reader.read(piece):
                yield characters
        reader.end()
    except FileNotFoundError:
        raise CorpusError(f"{path}: no such file; expected a UTF-8 text (`dvc repro` makes it)") from None
    except IsADirectoryError:
        raise CorpusError(f"{path}: expected a UTF-8 text, found a folder") from None
    except BadByteError as error:
        line = line_of(path, error.offset)
        raise CorpusError(f"{path}: {error} (line {line}); `dvc repro --force download` makes it anew") from None
    if not reader.num_bytes:
        raise CorpusError(f"{path}: expected a text, found an empty file")


def line_of(path: Path, offset: int) -> int:
    """The line, from 1, of the byte at `offset`."""
    return 1 + sum(piece.count(b"\n") for piece in read_pieces(path, 0, offset))


# The corpus, and its parts.

PARTS = {"train": "for training", "val": "for validation", "test": "for the test"}
MIN_PART_CHARS = 2  # one to read, one to guess
MAX_CHARACTER_BYTES = 4


def read_text(path: Path) -> str:
    """The whole text, newlines and all as they are.

    Raises:
        CorpusError: missing, not a file, empty, or not UTF-8 (with the offset of the first bad byte, and its line).
    """
    pieces = read_characters(read_pieces(path), path)
    return "".join(piece if isinstance(piece, str) else piece.decode("ascii") for piece in pieces)


class Part(NamedTuple):
    """A contiguous piece of a text, from byte `start` to before `end`."""

    start: int
    end: int
    num_chars: int
    num_moved: int  # characters that its beginning is later than the fraction says, to be a document's


class Corpus:
    """Where the characters of a UTF-8 file are, without their text."""

    def __init__(self, path: Path, pieces: Iterable[bytes]) -> None:
        """Read through all `pieces` of the file at `path`.

        Raises:
            CorpusError: as `read_text`.
        """
        self._path = path
        self._bytes, self._chars = [0], [0]  # how many there are before each piece
        reader = Utf8Reader()
        for piece in read_characters(pieces, path, reader):
            self._bytes.append(reader.num_bytes)
            self._chars.append(self._chars[-1] + len(piece))
        self.num_chars = self._chars[-1]

    def parts(self, val_fraction: float, test_fraction: float, separator: str | None) -> dict[str, Part]:
        """The parts by name: "train", "val", and "test" if there is any.

        The test part is the last `test_fraction` of the characters, validation the `val_fraction` before it.
        With a `separator`, a part begins where the next document does; if there is none, where it would without.

        Raises:
            CorpusError: a part would have fewer than 2 characters.
        """
        planned = [int(self.num_chars * max(0.0, 1 - (val_fraction + test_fraction)))]
        if test_fraction > 0:
            planned.append(int(self.num_chars * (1 - test_fraction)))
        cuts = [self._document_after(self._byte_of(cut), separator) for cut in planned]
        chars = [self._char_of(cut) for cut in cuts]
        bounds = zip([0, *cuts], [*cuts, self._bytes[-1]], [0, *chars], [*chars, self.num_chars], strict=True)
        moved = [num - num_planned for num, num_planned in zip([0, *chars], [0, *planned], strict=True)]
        parts = {
            name: Part(start, end, last - first, num_moved)
            for name, (start, end, first, last), num_moved in zip(PARTS, bounds, moved, strict=False)
        }
        if min(part.num_chars for part in parts.values()) < MIN_PART_CHARS:
            advice = "another split.val_fraction" if len(parts) == 2 else "other fractions"
            raise CorpusError(
                f"a text of {self.num_chars} characters splits into {describe_parts(parts)}; "
                f"each needs at least {MIN_PART_CHARS}: take a longer text or {advice}"
            )
        return parts

    def _byte_of(self, char: int) -> int:
        """Where a character begins."""
        index = bisect_right(self._chars, char) - 1
        start, num_chars = self._bytes[index], char - self._chars[index]
        reader, text = Utf8Reader(), ""
        for piece in read_pieces(self._path, start, start + MAX_CHARACTER_BYTES * num_chars):
            characters = reader.read(piece)
            text += characters if isinstance(characters, str) else characters.decode("ascii")
        return start + len(text[:num_chars].encode())

    def _char_of(self, place: int) -> int:
        """How many characters there are before the byte at `place`, where one begins."""
        index = bisect_right(self._bytes, place) - 1
        reader = Utf8Reader()
        pieces = read_pieces(self._path, self._bytes[index], place)
        return self._chars[index] + sum(len(reader.read(piece)) for piece in pieces)

    def _document_after(self, place: int, separator: str | None) -> int:
        return next(find_all(self._path, separator.encode(), place), place) if separator else place


def describe_parts(parts: dict[str, Part]) -> str:
    """Their sizes, for a message."""
    *first, last = (f"{part.num_chars} {PARTS[name]}" for name, part in parts.items())
    return f"{', '.join(first)} and {last}"
