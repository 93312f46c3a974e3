"""DVC's queue of experiments: what runs, waits and has failed. And DVC itself, with this interpreter's programs."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from pipeline.stage.terminal import reason_of

log = logging.getLogger("charlstm")

QUEUE = Path(".dvc/tmp/exps/celery")  # it is there once something was queued
SECONDS_TO_ANSWER, SECONDS_TO_END, SECONDS_TO_STOP, SECONDS_BETWEEN_LOOKS = 30, 5, 60, 1
STATES = RUNNING, WAITING, FAILED = "Running", "Queued", "Failed"  # as `dvc queue status` says it
# All that `dvc queue status` asks, but for the workers. Those are asked through a file, which a worker may read while
# it is being written, and then it dies (DVC 3.67).
ASK_DVC = """
import json
from dvc.repo import Repo
queue = Repo().experiments.celery_queue
failed = (entry for entry, _ in queue.iter_failed())
tasks = {"Running": queue.iter_active(), "Queued": queue.iter_queued(), "Failed": failed}
rows = [(task.name, state, task.stash_rev, task.baseline_rev) for state, entries in tasks.items() for task in entries]
print(json.dumps(rows))
"""
WORKER = "queue-worker"  # a subcommand of DVC


class Task(NamedTuple):
    """An experiment of DVC's queue that runs, waits or has failed."""

    name: str
    state: str
    revision: str  # a commit with its parameters
    baseline: str  # the commit that it begins from


class Queue(NamedTuple):
    """The tasks of DVC's queue that are not done, and whether a worker answers."""

    tasks: list[Task]
    has_worker: bool


def read_queue() -> Queue:
    """DVC's queue. To ask takes two seconds, so it is asked only where something was queued.

    Without its answer, there is a warning, and an empty queue.
    """
    if not QUEUE.is_dir():
        return Queue([], has_worker=False)
    command = [sys.executable, "-c", ASK_DVC]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS_TO_ANSWER)
        reason = reason_of(done) if done.returncode else ""
    except subprocess.TimeoutExpired:
        reason = f"no answer in {SECONDS_TO_ANSWER} seconds"
    if reason:
        log.warning("what runs, waits and failed is unknown: DVC's queue: %s", reason)
        return Queue([], has_worker=False)
    return Queue([Task(*row) for row in json.loads(done.stdout)], _has_worker(Path.cwd().resolve()))


def wait_for_idle_worker() -> None:
    """Wait until no worker is there that has nothing to do.

    DVC ends such a worker within some seconds. A task that comes just then may be lost with it, and DVC would wait for
    the task for ever (DVC 3.67).
    """
    deadline = time.monotonic() + SECONDS_TO_STOP
    while (queue := read_queue()).has_worker and time.monotonic() < deadline:
        if any(task.state != FAILED for task in queue.tasks):
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _has_worker(root: Path) -> bool:
    """Whether a process takes tasks of this project's queue."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if WORKER in process.cmdline() and Path(process.cwd()).resolve() == root:
                return True
    return False


def run_dvc(*arguments: str) -> int:
    """A command of DVC's, on this terminal; its exit code."""
    # DVC starts its worker as `dvc`, and stages as `python`: those beside this interpreter.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [sys.executable, "-m", "dvc", *arguments]
    with subprocess.Popen(command, env={**os.environ, "PATH": path}) as process:
        try:
            return process.wait()
        except BaseException:
            _stop(process)
            raise


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Wait until DVC has ended, as after Ctrl-C in a terminal, which reaches all. Else end it: its stage notices."""
    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_END)
    process.terminate()
    process.wait()
    psutil.wait_procs(below, SECONDS_TO_STOP)
