"""A process in the background of a stage, which feeds MLflow.

It is a process and no thread: servers take seconds of Python, and a thread that runs Python holds up training at every
operation. It has a low priority. A closed pipe tells it that the stage has ended, and nothing else does: signals that
end the stage, or all of a machine, find it with work to finish.
"""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil

from pipeline.stage.stage import guarded

SENDER = "pipeline.send"
LOW_PRIORITY = 10  # training comes first; at 19, a busy machine would leave it nothing


def start(module: str, *arguments: str, stdout: int) -> psutil.Popen:
    """Start it, with a pipe as its standard input.

    Raises:
        OSError: no process or no memory is left.
    """
    return psutil.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE, stdout=stdout, start_new_session=True,
    )  # fmt: skip


def work_in_background(work: Callable[[], int]) -> int:
    """What such a process does from its start to its end; its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(LOW_PRIORITY)
    return guarded(work)


def has_stage_ended(seconds: float) -> bool:
    """Whether the stage ends within so many seconds: it closes the pipe, and the system does if it dies."""
    is_ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(is_ready)
