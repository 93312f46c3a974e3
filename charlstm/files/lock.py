"""One holder at a time: a lock that the system frees when its process dies, however it dies."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from charlstm.errors import LockedError


@contextmanager
def exclusive(path: Path, what: str, waits: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold `path`, which need not exist, while in the context; `what` says for which work.

    The lock is a file beside `path`, so a folder may be removed while it is held. As long as `waits` returns True, it
    waits for another holder. It may be entered in one thread and left in another.

    Raises:
        LockedError: another process holds it, named by its number and machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder, lock = Path(f"{path}.holder"), _lock(path)
    while not lock.is_locked:
        try:
            lock.acquire()
        except Timeout:
            if not waits():
                raise LockedError(f"{what} is under way already, {_read(holder)}: wait for it, or stop it") from None
            time.sleep(1)
    try:
        holder.write_text(f"in process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def holder_of(path: Path) -> str | None:
    """Who holds `path`, in words; None for nobody."""
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
    return holder.read_text() if holder.exists() else "in another process"
