"""Atomic writes: files and folders get a temporary name, are synced to disk, and are then renamed.

A write also removes temporary files for its path that killed processes left at least a day ago.
"""

import errno
import glob
import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `path` on success and removed on failure."""
    with _removed(path) as temporary:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` on success and is removed on failure."""
    with _removed(path) as temporary:
        temporary.mkdir()
        yield temporary
        for file in [*temporary.iterdir(), temporary]:
            _sync(file)

        # A rename cannot replace a folder that has files, so the old folder is moved away first.
        old = _temporary_name(path)
        with suppress(FileNotFoundError):
            path.rename(old)
        temporary.replace(path)
        _sync(path.parent)
        _remove(old)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to the file `path` atomically."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` to a file atomically, as UTF-8 with unchanged newlines."""
    write_bytes(path, text.encode())


def remove_leftovers(path: Path, seconds_kept: float = 0.0) -> None:
    """Remove killed processes' temporary files of `path` at least `seconds_kept` seconds old."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.tmp"):
        with suppress(OSError):
            if time.time() - leftover.lstat().st_mtime >= seconds_kept:
                _remove(leftover)


@contextmanager
def _removed(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`. Finally, remove what exists at the temporary path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A temporary file less than a day old may belong to a running process.
    remove_leftovers(path, 24 * 3600)
    temporary = _temporary_name(path)
    try:
        yield temporary
    except OSError as error:
        # The error for a full disk does not name a file.
        error.filename = error.filename or str(path)
        raise
    finally:
        _remove(temporary)


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _remove(path: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems cannot sync folders.
        if path.is_file():
            raise
    finally:
        os.close(descriptor)


PIECE_BYTES = 1 << 20
MAX_DOCUMENT_BYTES = 50_000_000  # a vocabulary of all of Unicode has 12 MB
Check = Callable[[str], object]  # called with the SHA-256 of a new file before the final rename


def read_pieces(path: Path, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Yield the bytes of a file from offset `start` up to `end`, at most PIECE_BYTES at a time."""
    rest = sys.maxsize if end is None else max(0, end - start)
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(min(PIECE_BYTES, rest)):
            rest -= len(piece)
            yield piece


def check_regular(path: Path) -> None:
    """Raise OSError if `path` is a device or a pipe, whose end might never come."""
    if path.exists() and not path.is_file():
        raise OSError(errno.ENOTSUP, "it is not a regular file", str(path))


def read_document(path: Path) -> bytes:
    """Return the content of a small file that may come from a stranger.

    Raises:
        OSError: the file cannot be read, is too large, or is not a regular file.
    """
    check_regular(path)
    with path.open("rb") as file:
        content = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(content) > MAX_DOCUMENT_BYTES:
        raise OSError(errno.EFBIG, f"it has more than {MAX_DOCUMENT_BYTES:,} bytes", str(path))
    return content


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
