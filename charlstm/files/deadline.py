"""A call that is given up when it takes too long. Its thread is left behind."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

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
        if (
            time.monotonic() - since >= seconds
            or time.monotonic() - began >= MOST_EXTENSION * seconds
        ):
            raise TimeoutError(f"no answer within {seconds:g} s")
    return answer.result()


def _answer(answer: "Future[T]", call: Callable[[], T]) -> None:
    try:
        answer.set_result(call())
    except BaseException as error:
        answer.set_exception(error)
