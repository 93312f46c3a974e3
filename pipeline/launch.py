"""Runs a launcher (`accelerate launch ...`, `torchrun ...`) and keeps what it loses: signals and exit codes.

`python -m pipeline.launch accelerate launch -m pipeline.train` is `accelerate launch -m pipeline.train`, but a request
to stop reaches the training processes, nothing is left behind, and the exit code is theirs (2: bad input; 75:
interrupted, try again) where `accelerate launch` has 1 for everything.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from pipeline.interruption import SIGNALS, is_launcher
from pipeline.stage import EXIT_BAD_INPUT, EXIT_CODE_FILE, EXIT_INTERRUPTED

SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_TO_SAVE = 60.0


def run(command: Sequence[str]) -> int:
    """Run `command` to its end; the exit code of the training processes below it."""
    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        code_file = Path(folder) / "exit-code"
        for number in (signal.SIGINT, signal.SIGUSR1):  # a launcher must not die of what is meant for its processes
            signal.signal(number, signal.SIG_IGN)
        try:
            launcher = subprocess.Popen(command, env={**os.environ, EXIT_CODE_FILE: str(code_file)})
        except OSError as error:
            sys.stderr.write(f"ERROR: {command[0]}: {error.strerror}\n")
            return EXIT_BAD_INPUT
        workers: set[psutil.Process] = set()
        is_stopped = False

        def forward(number: int, frame: object) -> None:
            nonlocal is_stopped
            is_stopped = True
            workers.update(_workers_below(launcher.pid))
            _terminate(workers)

        for number in SIGNALS:
            signal.signal(number, forward)
        while (code := _wait(launcher)) is None:
            workers.update(_workers_below(launcher.pid))
            if is_stopped:  # also those that were not there yet
                _terminate(workers)
        # A launcher that was killed leaves its processes; they notice, save and go.
        psutil.wait_procs(workers, timeout=SECONDS_TO_SAVE)
        if code == 0:
            return 0
        if is_stopped:
            return EXIT_INTERRUPTED
        if code_file.exists():
            return int(code_file.read_text())
        return code if code > 0 else 128 - code  # as a shell has it after a signal


def _workers_below(pid: int) -> list[psutil.Process]:
    try:
        return [one for one in psutil.Process(pid).children(recursive=True) if not is_launcher(one)]
    except psutil.Error:
        return []


def _terminate(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(SECONDS_BETWEEN_LOOKS)
    except subprocess.TimeoutExpired:
        return None


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
