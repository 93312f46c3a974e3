"""Reading and writing in pieces, so that the size of a file does not matter."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from charlstm.files.atomic import atomic_file

PIECE_BYTES = 1 << 20
Advance = Callable[[int], object]  # told of each number of bytes that is done
Check = Callable[[str], object]  # called with the SHA-256 of a file before it takes its place


def read_pieces(
    path: Path, start: int = 0, end: int | None = None, advance: Advance | None = None
) -> Iterator[bytes]:
    """The bytes of a file from `start` to before `end`, in order; cuts fall anywhere."""
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(
            PIECE_BYTES if end is None else min(PIECE_BYTES, max(0, end - start))
        ):
            start += len(piece)
            yield piece
            if advance:
                advance(len(piece))


def write_pieces(
    path: Path, pieces: Iterable[bytes | memoryview], check: Check | None = None
) -> str:
    """Write a file, whole or not at all; its SHA-256. What `check` or `pieces` raises leaves nothing behind."""
    found = hashlib.sha256()
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        for piece in pieces:
            found.update(piece)
            file.write(piece)
        if check:
            check(found.hexdigest())
        return found.hexdigest()


def find(path: Path, sought: bytes, start: int = 0) -> int:
    """The first place from `start` on where `sought` begins, in bytes from the beginning; -1 if there is none."""
    before = b""  # the end of the piece before, one byte too short to hold all of `sought`
    for piece in read_pieces(path, start):
        content = before + piece
        if (place := content.find(sought)) >= 0:
            return start - len(before) + place
        start += len(piece)
        before = content[max(0, len(content) - len(sought) + 1) :]
    return -1
