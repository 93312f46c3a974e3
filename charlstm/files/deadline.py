"""A deadline for a call that may never return."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")
SECONDS_BETWEEN_LOOKS = 0.1
WORK_SECONDS = 0.2  # a call counts as working if this process uses so much CPU time
MOST_EXTENSION = 4  # maximum total time of a working call, as a multiple of its deadline


def answer_within(seconds: float, call: Callable[[], T]) -> T:
    """Run `call` in a new thread. Return the result within a deadline of `seconds`.

    The timeout of a request restarts with every byte, so a slow server could block forever. The
    deadline is extended only while this process works, e.g. imports a library on a busy machine,
    and at most to four times `seconds`.

    Raises:
        TimeoutError: the deadline passed. The thread continues in the background.
    """
    answer: Future[T] = Future()
    threading.Thread(target=_answer, args=(answer, call), daemon=True).start()

    worked = time.process_time()
    began = since = time.monotonic()
    while not wait([answer], min(seconds, SECONDS_BETWEEN_LOOKS)).done:
        now = time.monotonic()
        if time.process_time() - worked > WORK_SECONDS:
            worked = time.process_time()
            since = now
        if now - since >= seconds or now - began >= MOST_EXTENSION * seconds:
            raise TimeoutError(f"no answer within {seconds:g} s")
    return answer.result()


def _answer(answer: "Future[T]", call: Callable[[], T]) -> None:
    try:
        answer.set_result(call())
    except BaseException as error:
        answer.set_exception(error)
