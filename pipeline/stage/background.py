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

from pipeline.stage.exit_codes import EXIT_CODES
from pipeline.stage.interruption import command_of
from pipeline.stage.stage import guarded

SENDER = "pipeline.send"
LOW_PRIORITY = 10  # training comes first; at 19, a busy machine would leave it nothing


def start(module: str, *arguments: str, stdout: int) -> psutil.Popen:
    """Start it, with a pipe as its standard input.

    Raises:
        OSError: no process or no memory is left.
    """
    environment = {name: value for name, value in os.environ.items() if name != EXIT_CODES}  # the stage's own
    return psutil.Popen(
        [sys.executable, "-m", module, *arguments],
        env=environment, stdin=subprocess.PIPE, stdout=stdout, start_new_session=True,
    )  # fmt: skip


def is_in_background(process: psutil.Process) -> bool:
    """Whether a process is such a one: it ends by itself when the stage that started it has ended."""
    return SENDER in command_of(process)


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
