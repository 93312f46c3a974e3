"""Files that are whole or absent: written under a temporary name, synced, then renamed. And their hashes.

Writers of one path do not disturb each other: each has a temporary name of its own, which it locks while it lives. What
a killed process left under such a name goes when the same file is written again.
"""

import contextlib
import errno
import fcntl
import glob
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path

SPECIAL_FILES = {"p": "FIFO", "s": "socket", "c": "device", "b": "device"}  # by the first letter that `ls -l` shows
# Names beside a file: a dot, its own name, a dot, random digits, and one of these ends.
TEMPORARY, OLD, LOCK = ".tmp", ".old", ".lock"
NUM_RANDOM_BYTES = 4
SECONDS_TO_LOCK, SECONDS_BETWEEN_TRIES = 5.0, 0.01  # writers hold a lock for milliseconds


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; on success it becomes `path`, on failure it is removed."""
    with _temporary(path, is_folder=False) as temporary:
        with _naming(path):
            yield temporary
            _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`; on success it takes the place of `path`, on failure it is removed."""
    with _temporary(path, is_folder=True) as temporary:
        with _naming(path):
            yield temporary
            for file in [*temporary.iterdir(), temporary]:
                _sync(file)
        with _locked(path.parent):  # two renames: another writer of `path` waits until both are done
            old = temporary.with_suffix(OLD)
            try:
                if path.exists():
                    path.rename(old)
                temporary.replace(path)
                _sync(path.parent)
            finally:
                if old.exists() and not path.exists():
                    old.rename(path)
                shutil.rmtree(old, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with newlines as they are, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


class SpecialFileError(OSError):
    """Instead of a file there is a FIFO, which may block for ever, or a device, which may never end."""


def open_regular(path: Path) -> BufferedReader:
    """Open a file to read its bytes.

    Raises:
        OSError: it is missing or unreadable, or a folder.
        SpecialFileError: it is a FIFO, a socket or a device.
    """
    if kind := SPECIAL_FILES.get(stat.filemode(path.stat().st_mode)[0]):  # before opening, which may block
        raise SpecialFileError(errno.ENODEV, f"expected a file, found a {kind}", str(path))
    return path.open("rb")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _temporary(path: Path, *, is_folder: bool) -> Iterator[Path]:
    """An empty file or folder beside `path` that nobody else has; removed at the end, if it is still there."""
    with _naming(path), ExitStack() as stack:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent):  # so that nobody takes it for a leftover before it is locked
            remove_leftovers(path)
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(NUM_RANDOM_BYTES)}{TEMPORARY}")
            if is_folder:  # it is not locked itself, since those who write a file in it lock its folder, too
                temporary.mkdir()
                stack.callback(shutil.rmtree, temporary, ignore_errors=True)
            locked = _lock_of(temporary)
            locked.touch(exist_ok=False)  # the kernel applies the umask; asking for it would change it for all threads
            stack.callback(locked.unlink, missing_ok=True)
            stack.enter_context(_locked(locked))
        cleanup = stack.pop_all()
    with cleanup:
        yield temporary


def _lock_of(temporary: Path) -> Path:
    """The file that the writer of a temporary file or folder holds locked."""
    return temporary.with_suffix(LOCK) if temporary.is_dir() else temporary


def remove_leftovers(path: Path) -> None:
    """Remove what dead writers of `path` left. A folder that they had moved away comes back if it has no successor."""
    names = f".{glob.escape(path.name)}.{'[0-9a-f]' * 2 * NUM_RANDOM_BYTES}"
    for leftover in path.parent.glob(f"{names}{OLD}"):
        if path.exists():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.rename(path)
    for leftover in (*path.parent.glob(f"{names}{TEMPORARY}"), *path.parent.glob(f"{names}{LOCK}")):
        if _is_free(_lock_of(leftover)):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder, as soon as nobody else has it; the system frees it when the process dies.

    On a disk that has no locks, nothing is held, and leftovers stay. Nor is anything held where somebody holds a folder
    for long, as `flock FOLDER COMMAND` does while the command runs.
    """
    descriptor, deadline = os.open(path, os.O_RDONLY), time.monotonic() + SECONDS_TO_LOCK
    try:
        with contextlib.suppress(OSError):
            while not _is_locked_by(descriptor) and time.monotonic() < deadline:
                time.sleep(SECONDS_BETWEEN_TRIES)
        yield
    finally:
        os.close(descriptor)


def _is_locked_by(descriptor: int) -> bool:
    """Whether the lock is this descriptor's from now on; not where another one has it.

    Raises:
        OSError: the disk has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_free(path: Path) -> bool:
    """Whether no living process holds the lock of `path`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ELOOP)  # nothing, or a link, is never locked
    return True


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
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF) or not path.is_dir():
            raise  # else it is a network disk that syncs no folder
    finally:
        os.close(descriptor)
