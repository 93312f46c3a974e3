"""One holder at a time: a lock that the system frees when its process dies, however it dies."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from charlstm.errors import LockedError
from charlstm.files.atomic import write_text

HOLDER = ".holder"  # after the name of what is held: who holds it, in words
SECONDS_BETWEEN_TRIES = 1.0


@contextmanager
def exclusive(path: Path, what: str, waits: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Hold `path`, which need not exist, while in the context; `what` says for which work.

    The lock is a file beside `path`, not in it, and is never removed: whoever holds a folder may remove it, and a lock
    removed with it would let in another holder, who locks a new file of the same name. As long as `waits` says so, it
    waits for another holder. It may be entered in one thread and left in another.

    Raises:
        LockedError: another process holds it, named by its number and machine; or the disk has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    holder, lock = path.with_name(f"{path.name}{HOLDER}"), _lock_of(path)
    while not lock.is_locked:
        try:
            lock.acquire()
        except Timeout:
            if not waits():
                raise LockedError(f"{what} is under way already, {_read(holder)}: wait for it, or stop it") from None
            time.sleep(SECONDS_BETWEEN_TRIES)
        except OSError as error:
            raise LockedError(
                f"{lock.lock_file}: the disk gives no locks ({error.strerror}): keep the project on one that does"
            ) from None
    try:
        write_text(holder, f"in process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def holder_of(path: Path) -> str | None:
    """Who holds `path`, in words; None for nobody.

    Only where a holder has left its name and may be dead is the lock tried, for no longer than that takes.
    """
    holder = path.with_name(f"{path.name}{HOLDER}")
    if not holder.exists():
        return None
    try:
        with _lock_of(path):
            return None
    except Timeout:
        return _read(holder)


def _lock_of(path: Path) -> FileLock:
    """Not one of those files that stay when their process dies, which filelock takes where the disk has no locks."""
    return FileLock(path.with_name(f"{path.name}.lock"), blocking=False, thread_local=False, fallback_to_soft=False)


def _read(holder: Path) -> str:
    try:
        return holder.read_text()
    except OSError:
        return "in a process that has not yet left its number"
