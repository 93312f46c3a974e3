"""Files read and written in pieces, so that their size does not matter."""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from charlstm.files.atomic import atomic_file, open_regular

PIECE_BYTES = 1 << 20
Advance = Callable[[int], object]  # told of each number of bytes that is done
Check = Callable[[str], object]  # called with the SHA-256 of a file before it takes its place


def read_pieces(path: Path, start: int = 0, end: int | None = None, advance: Advance | None = None) -> Iterator[bytes]:
    """The bytes of a file from `start` to before `end`, in order; cuts fall anywhere."""
    with open_regular(path) as file:
        file.seek(start)
        while piece := file.read(PIECE_BYTES if end is None else min(PIECE_BYTES, max(0, end - start))):
            start += len(piece)
            yield piece
            if advance:
                advance(len(piece))


def write_pieces(path: Path, pieces: Iterable[bytes | memoryview], check: Check | None = None) -> str:
    """Write a file, whole or not at all; its SHA-256. What `check` or `pieces` raises leaves nothing behind."""
    found = sha256()
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        for piece in pieces:
            found.update(piece)
            file.write(piece)
        if check:
            check(found.hexdigest())
        return found.hexdigest()


def find_all(path: Path, sought: bytes, start: int = 0) -> Iterator[int]:
    """Each place from `start` on where `sought` begins in a file, in bytes from the file's beginning."""
    before = b""  # the end of the piece before, one byte too short to hold all of `sought`
    for piece in read_pieces(path, start):
        content = before + piece
        place = content.find(sought)
        while place >= 0:
            yield start - len(before) + place
            place = content.find(sought, place + 1)
        start += len(piece)
        before = content[max(0, len(content) - len(sought) + 1) :]
