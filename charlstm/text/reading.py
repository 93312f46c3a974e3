"""UTF-8 in pieces as characters. Pieces of ASCII stay bytes, which is many times faster; others are decoded."""

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path

from charlstm.errors import CorpusError
from charlstm.storage.pieces import read_pieces

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
