"""The parts of a corpus: contiguous pieces of one UTF-8 text, which is read without loss."""

import codecs
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CorpusError
from charlstm.files.atomic import read_pieces

PARTS = {"train": "for training", "val": "for validation", "test": "for the test"}
MIN_PART_CHARS = 2  # one character to read and one to predict


class Part(NamedTuple):
    """A contiguous piece of a text, from byte `start` up to, but not including, byte `end`."""

    start: int
    end: int
    num_chars: int


def parts_of(path: Path, val_fraction: float, test_fraction: float) -> dict[str, Part]:
    """Return the parts of a UTF-8 file, keyed by name.

    The names are "train", "val" and, if `test_fraction` is not 0, "test". The test part is the last
    `test_fraction` of the characters, and the validation part is the `val_fraction` before it.

    Raises:
        CorpusError: the file is empty or not UTF-8, or a part would have fewer than 2 characters.
    """
    num_chars = sum(map(len, read_characters(read_pieces(path), path)))
    planned = [int(num_chars * max(0.0, 1 - (val_fraction + test_fraction)))]
    if test_fraction > 0:
        planned.append(int(num_chars * (1 - test_fraction)))
    cuts = [0, *(_byte_of(path, char) for char in planned), path.stat().st_size]
    places = zip(PARTS, pairwise(cuts), strict=False)
    parts = {name: Part(*place, _num_chars(path, *place)) for name, place in places}
    if min(part.num_chars for part in parts.values()) < MIN_PART_CHARS:
        sizes = ", ".join(f"{part.num_chars} {PARTS[name]}" for name, part in parts.items())
        raise CorpusError(
            f"a text of {num_chars} characters splits into {sizes}; each part needs at least "
            f"{MIN_PART_CHARS} characters: use a longer text or change the fractions in `split`"
        )
    return parts


def _byte_of(path: Path, char: int) -> int:
    """Return the offset of the first byte of the character at index `char`."""
    offset = 0
    for text in decoded(read_pieces(path)):
        before = text[:char]
        offset += len(before.encode())
        char -= len(before)
        if char == 0:
            break
    return offset


def _num_chars(path: Path, start: int, end: int) -> int:
    return sum(map(len, decoded(read_pieces(path, start, end))))


class BadByteError(ValueError):
    """A byte that is invalid in `encoding`. `offset` is its position in the file, from 0."""

    def __init__(self, encoding: str, byte: int, offset: int) -> None:
        self.offset = offset
        expected = encoding.upper()
        super().__init__(f"expected {expected}, found byte 0x{byte:02x} at offset {offset}")


def decoded(pieces: Iterable[bytes], encoding: str = "utf-8") -> Iterator[str]:
    """Decode a text from its pieces. A piece may end in the middle of a character.

    Raises:
        BadByteError: a byte is invalid, or the text ends inside a character.
        UnicodeError: a byte-order mark is missing in UTF-16 or UTF-32.
    """
    decoder = codecs.getincrementaldecoder(encoding)()
    num_read = 0
    try:
        for piece in pieces:
            num_read += len(piece)
            yield decoder.decode(piece)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        # `error.object` begins with the bytes that the decoder kept from earlier pieces.
        offset = num_read - len(error.object) + error.start
        raise BadByteError(encoding, error.object[error.start], offset) from None


def read_characters(pieces: Iterable[bytes], path: Path) -> Iterator[str]:
    """Decode `pieces`, which are all pieces of the UTF-8 file `path`.

    Raises:
        CorpusError: the file is empty or not UTF-8. The message has the byte, offset and line.
    """
    if path.stat().st_size == 0:
        raise CorpusError(f"{path}: expected a text, found an empty file")
    try:
        yield from decoded(pieces)
    except BadByteError as error:
        line = line_of(path, error.offset)
        advice = "run `dvc repro --force download` to re-create it"
        raise CorpusError(f"{path}: {error} (line {line}); {advice}") from None


def line_of(path: Path, offset: int) -> int:
    """Return the line number, counted from 1, of the byte at `offset`."""
    return 1 + sum(piece.count(b"\n") for piece in read_pieces(path, 0, offset))
