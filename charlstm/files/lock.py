"""A lock between processes, which the death of its holder releases."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from charlstm.errors import LockedError
from charlstm.files.atomic import write_text


@contextmanager
def exclusive(path: Path, what: str, waits: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold the lock of `path` for the work `what`, while the context lasts.

    The lock is a file next to `path`, so `path` may be missing, created or removed. The context
    may be entered in one thread and left in another. While `waits` returns True, another holder
    is waited for.

    Raises:
        LockedError: another process holds the lock. The message names its process id and machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(f"{path}.holder")
    lock = _lock(path)
    try:
        # filelock takes an endless timeout for a deadlock if this thread holds the lock already.
        lock.acquire(
            timeout=threading.TIMEOUT_MAX, poll_interval=1, cancel_check=lambda: not waits()
        )
    except Timeout:
        raise LockedError(
            f"{what} is under way already, {_read(holder)}: wait for it, or stop it"
        ) from None
    try:
        write_text(holder, f"in process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def holder_of(path: Path) -> str | None:
    """Return a description of the process that holds the lock of `path`, or None if it is free."""
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
    # A holder writes its file only after it has the lock.
    return holder.read_text() if holder.exists() else "in another process"
