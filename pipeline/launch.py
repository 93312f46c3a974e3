"""Runs a launcher (`accelerate launch ...`, `torchrun ...`) and keeps what it loses: signals and exit codes.

`python -m pipeline.launch accelerate launch -m pipeline.train` is `accelerate launch -m pipeline.train`, but a request
to stop reaches the training processes, no process is left behind, and the exit code is theirs (2: bad input; 75:
interrupted, try again) where `accelerate launch` has 1 for everything.
"""

import contextlib
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType

import psutil

from pipeline.doctor.examination import examine_training
from pipeline.dvc.previous_outputs import DVC_STAGE, LAUNCHED_STAGE, with_previous_outputs
from pipeline.stage.background import is_in_background
from pipeline.stage.exit_codes import (
    EXIT_BAD_INPUT,
    EXIT_CODES,
    EXIT_INTERRUPTED,
    classify_crashes,
    code_of_all,
    processes_gone,
)
from pipeline.stage.interruption import (
    IGNORED_BY_LAUNCHER,
    SIGNALS,
    is_alive,
    is_launcher,
    launchers_above,
    without_ignored,
)
from pipeline.stage.stage import guarded

log = logging.getLogger("charlstm")

TRAINING = "pipeline.train"
SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_TO_SAVE = 60.0
SECONDS_WITHOUT_WORKERS = 60.0  # torchrun can wait for a lost node for ever; a restart takes it less
DEFAULTS = {
    # Without it, restarted processes find the addresses of those before them, and connect to nothing (torchrun 2.13).
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    # Below it, `accelerate launch` warns in eight lines of each value that it chooses, such as a process for every GPU.
    "ACCELERATE_LOG_LEVEL": "error",
}


def main(command: Sequence[str]) -> int:
    """Run `command` to its end; the exit code."""
    if not command:
        sys.stderr.write("usage: python -m pipeline.launch accelerate launch ... | torchrun ...\n")
        return EXIT_BAD_INPUT
    return with_previous_outputs(lambda: guarded(lambda: _launch(command)))


def _launch(command: Sequence[str]) -> int:
    """Check the training, then start its processes: they take seconds, and each would tell the same faults."""
    if TRAINING in command:
        findings = examine_training()
        for finding in findings:
            log.log(logging.ERROR if finding.is_error else logging.WARNING, " ".join(finding.text.split("\n")))
        if any(finding.is_error for finding in findings):
            return EXIT_BAD_INPUT
    with tempfile.TemporaryDirectory(prefix="charlstm-", ignore_cleanup_errors=True) as codes:
        return Launched(command, Path(codes)).wait()


class Launched:
    """A running launcher and the training processes below it, which record their exit codes in a folder."""

    def __init__(self, command: Sequence[str], codes: Path) -> None:
        self.is_stopped = self._is_asking = False
        self._codes, self._above = codes, launchers_above()
        # Sets are replaced, never grown: the signal handler may run while the main thread reads one.
        self._workers: frozenset[psutil.Process] = frozenset()
        self._signalled: frozenset[psutil.Process] = frozenset()
        signals = without_ignored(SIGNALS)
        ignored = [number for number in signals if number != signal.SIGTERM]
        for one in ignored:  # a launcher must not die of what is meant for its processes
            signal.signal(one, signal.SIG_IGN)
        own = {
            EXIT_CODES: str(codes),
            LAUNCHED_STAGE: os.environ.get(DVC_STAGE, ""),
            IGNORED_BY_LAUNCHER: " ".join(one.name for one in ignored),
        }
        self._launcher = psutil.Popen(command, env={**DEFAULTS, **os.environ, **own})
        for number in signals:
            signal.signal(number, self.stop)

    def stop(self, number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Ask the training processes to save and end; the launcher ends with them."""
        self.is_stopped = True
        if self._is_asking:  # a signal came while one was handled: many of them would nest without end
            return
        self._is_asking = True
        try:
            self._signalled = self._find_workers()
            _terminate(self._signalled)
        finally:
            self._is_asking = False

    def wait(self) -> int:
        """Wait until all have ended; the exit code of the training processes."""
        seen_at = time.monotonic()
        while (code := self._ended()) is None:
            if not self.is_stopped and not all(map(is_alive, self._above)):
                self.stop()  # DVC forwards no signal when it dies of one
            if self.is_stopped and (new := self._find_workers() - self._signalled):  # torchrun started others for them
                _terminate([self._launcher, *new])
                self._signalled |= new
            if any(map(is_alive, self._find_workers())) or not self._workers:
                seen_at = time.monotonic()
            elif time.monotonic() - seen_at > SECONDS_WITHOUT_WORKERS:
                self._launcher.kill()
        # A launcher that was killed leaves its processes; they notice, save and go.
        psutil.wait_procs(self._workers, timeout=SECONDS_TO_SAVE)
        for trace in classify_crashes(self._codes):
            log.error("a training process died of a signal:\n%s", trace)
        if code == 0:
            return 0
        if self.is_stopped:
            return EXIT_INTERRUPTED
        if (reason := code_of_all(self._codes)) is not None:
            if reason == EXIT_INTERRUPTED and (gone := processes_gone(self._codes)):
                log.error("interrupted: %s; the same command resumes from the last checkpoint, if any", gone)
            return reason
        return code if code > 0 else 128 - code  # as a shell has it after a signal

    def _ended(self) -> int | None:
        with contextlib.suppress(psutil.TimeoutExpired):
            return int(self._launcher.wait(SECONDS_BETWEEN_LOOKS))
        return None

    def _find_workers(self) -> frozenset[psutil.Process]:
        """All training processes so far; a launcher may start others for those that failed."""
        with contextlib.suppress(psutil.Error):
            below = self._launcher.children(recursive=True)
            self._workers |= {
                process for process in below if not is_launcher(process) and not is_in_background(process)
            }
        return self._workers


def _terminate(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
