"""A lock that is free once its holder is dead, and calls that wait for an answer only so long."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

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
        lock.acquire(timeout=threading.TIMEOUT_MAX, poll_interval=1, cancel_check=lambda: not waits())
    except Timeout:
        raise LockedError(f"{what} is under way already, {_read(holder)}: wait for it, or stop it") from None
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


# What is asked in a thread can be left behind.

T = TypeVar("T")

SECONDS_BETWEEN_LOOKS = 0.1
WORK_SECONDS = 0.2  # of this process's CPU time, which show that it works
MOST_EXTENSION = 4  # a call that works gets at most so many times its seconds


def answer_within(seconds: float, call: Callable[[], T]) -> T:
    """Return what `call` returns.

    A request's own time-out starts again with each byte, so a slow server could hold it forever. Here, only work of
    this process (such as importing a library on a busy machine) extends the time, up to four times.

    Raises:
        TimeoutError: there is no result after so many seconds. The thread of the call is left behind.
    """
    answer: Future[T] = Future()
    threading.Thread(target=_answer, args=(answer, call), daemon=True).start()
    worked = time.process_time()
    began = since = time.monotonic()
    while not wait([answer], min(seconds, SECONDS_BETWEEN_LOOKS)).done:
        if time.process_time() - worked > WORK_SECONDS:
            worked = time.process_time()
            since = time.monotonic()
        if time.monotonic() - since >= seconds or time.monotonic() - began >= MOST_EXTENSION * seconds:
            raise TimeoutError(f"no answer within {seconds:g} s")
    return answer.result()


def _answer(answer: "Future[T]", call: Callable[[], T]) -> None:
    try:
        answer.set_result(call())
    except BaseException as error:
        answer.set_exception(error)
