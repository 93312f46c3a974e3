"""A lock between processes, which is released if the process that holds it dies."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from charlstm.errors import LockedError
from charlstm.files.atomic import write_text


@contextmanager
def exclusive(path: Path, what: str, waits: bool = False) -> Iterator[None]:
    """Lock `path` while the context lasts. Error messages describe the work as `what`.

    The lock is a file next to `path`, so `path` may be missing, created or removed. The context
    may be entered in one thread and left in another. With `waits`, wait until another process
    releases the lock.

    Raises:
        LockedError: another process holds the lock. The message names its process id and machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(f"{path}.holder")
    lock = _lock(path)
    try:
        # Without a timeout, filelock reports a deadlock if this thread already holds the lock.
        lock.acquire(timeout=threading.TIMEOUT_MAX, poll_interval=1, cancel_check=lambda: not waits)
    except Timeout:
        raise LockedError(
            f"{what} is already running {_read(holder)}: wait until it ends, or stop it"
        ) from None
    try:
        write_text(holder, f"in process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def holder_of(path: Path) -> str | None:
    """Describe the process that holds the lock of `path`. Return None if no process holds it."""
    holder = Path(f"{path}.holder")
    if holder.exists():
        try:
            with _lock(path):
                pass
        except Timeout:
            return _read(holder)
    return None


def _lock(path: Path) -> FileLock:
    return FileLock(f"{path}.lock", timeout=0, thread_local=False, fallback_to_soft=False)


def _read(holder: Path) -> str:
    # A process writes its holder file only after it has acquired the lock.
    return holder.read_text() if holder.exists() else "in another process"
