"""A lock that is free once its holder is dead, and calls that wait for an answer only so long."""

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
    """Hold `path`, which need not exist, while in the context; `what` says for which work.

    The lock is a file next to `path`, so a folder may be removed while it is held. As long as `waits` returns True, it
    waits for another holder. It may be entered in one thread and left in another.

    Raises:
        LockedError: another process holds it, named by its number and machine.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder, lock = Path(f"{path}.holder"), _lock(path)
    try:
        # Endless would be refused to a thread that holds it already, as a deadlock.
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
