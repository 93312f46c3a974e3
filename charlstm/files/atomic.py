"""Files that are whole or absent: written under a temporary name, synced, then renamed; read in pieces; checksums.

What a killed process left under a temporary name is removed when the same file is written a day later.
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
    """A temporary path next to `path`; on success it becomes `path`, on failure it is removed."""
    temporary = _temporary(path)
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:  # of a full disk, it lacks the name of what did not fit
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder next to `path`; on success it takes the place of `path`, on failure it is removed."""
    temporary, old = _temporary(path), _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in [*temporary.iterdir(), temporary]:
            _sync(file)
        with suppress(FileNotFoundError):
            path.rename(old)
        temporary.replace(path)
        _sync(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with newlines as they are, whole or not at all."""
    write_bytes(path, text.encode())


def remove_leftovers(path: Path, seconds_kept: float = 0.0) -> None:
    """Remove what writers of `path` left when they were killed; what is younger may be in use."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}.tmp"):
        with suppress(OSError):
            if time.time() - leftover.lstat().st_mtime >= seconds_kept:
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def _temporary(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path, 24 * 3600)
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # of which a network disk syncs none
            raise
    finally:
        os.close(descriptor)
