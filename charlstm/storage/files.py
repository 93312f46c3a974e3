"""Files that are whole or absent: written under a temporary name, synced, then renamed. And their hashes.

What a killed process left under a temporary name goes when the same file is written again.
"""

import errno
import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; on success it becomes `path`, on failure it is removed."""
    temporary = _prepare(path)
    temporary.touch(exist_ok=False)  # the kernel applies the umask; asking for it would change it for all threads
    try:
        with _naming(path):
            yield temporary
            _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`; on success it takes the place of `path`, on failure it is removed."""
    temporary = _prepare(path)
    temporary.mkdir()
    old = temporary.with_suffix(".old")
    try:
        with _naming(path):
            yield temporary
            for file in [*temporary.iterdir(), temporary]:
                _sync(file)
        if path.exists():
            path.rename(old)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with newlines as they are, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _prepare(path: Path) -> Path:
    """Make room for `path`; a temporary path beside it that nobody else has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if leftover.suffix in (".tmp", ".old") and leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        elif leftover.suffix == ".tmp":
            leftover.unlink(missing_ok=True)
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A full disk is reported with the name of what did not fit."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
