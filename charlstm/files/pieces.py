"""Files are read and written in pieces, so that memory use does not grow with file size."""

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path

from charlstm.files.atomic import atomic_file

PIECE_BYTES = 1 << 20
Check = Callable[[str], object]  # called with the SHA-256 of a new file before the final rename


def read_pieces(path: Path, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Yield the bytes of a file from offset `start` up to `end`, at most PIECE_BYTES at a time."""
    rest = sys.maxsize if end is None else max(0, end - start)
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(min(PIECE_BYTES, rest)):
            rest -= len(piece)
            yield piece


def write_pieces(
    path: Path, pieces: Iterable[bytes | memoryview], check: Check | None = None
) -> str:
    """Write `pieces` to a file atomically. Return the SHA-256 of the file.

    An error in `pieces` or `check` leaves `path` unchanged.
    """
    found = hashlib.sha256()
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        for piece in pieces:
            found.update(piece)
            file.write(piece)
        if check:
            check(found.hexdigest())
    return found.hexdigest()


def find(path: Path, sought: bytes, start: int = 0) -> int:
    """Return the offset of the first `sought` in a file from `start` on, or -1 if there is none.

    The file must not be empty.
    """
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
        return content.find(sought, start)
