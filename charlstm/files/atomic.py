"""Atomic writes: files and folders get a temporary name, are synced to disk, and are then renamed.

A write also removes temporary files for its path that killed processes left at least a day ago.
"""

import glob
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
