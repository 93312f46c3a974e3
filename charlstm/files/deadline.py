"""Waits for an answer, but not for ever: what is asked in a thread can be left behind."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")

SECONDS_BETWEEN_LOOKS = 0.1
WORK_SECONDS = 0.2  # of processor time: less is no sign of work


def answer_within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns. Its thread is left behind after so many seconds in which this process does nothing.

    The time-out of a request begins anew with each byte, so a slow server could hold it for ever; and a busy machine
    may take long to import a library, which is no silence.

    Raises:
        TimeoutError: no answer came.
    """
    answer: Future[T] = Future()
    threading.Thread(target=_answer, args=(answer, call), daemon=True).start()
    worked, since = time.process_time(), time.monotonic()
    while not wait([answer], min(seconds, SECONDS_BETWEEN_LOOKS)).done:
        if time.process_time() - worked > WORK_SECONDS:
            worked, since = time.process_time(), time.monotonic()
        if time.monotonic() - since >= seconds:
            raise TimeoutError(f"no answer within {seconds:g} s")
    return answer.result()


def _answer(answer: "Future[T]", call: Callable[[], T]) -> None:
    try:
        answer.set_result(call())
    except BaseException as error:
        answer.set_exception(error)
