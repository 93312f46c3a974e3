"""Watches a launcher (`accelerate launch`, `torchrun`), so that no signal and no exit code is lost on its way."""

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType

import psutil

from pipeline.common.interruption import SIGNALS, is_alive, is_launcher, launchers_above
from pipeline.common.stage import EXIT_CODES, EXIT_INTERRUPTED, code_of_all

SECONDS_BETWEEN_LOOKS = 2.0
SECONDS_TO_SAVE = 60.0
SECONDS_WITHOUT_WORKERS = 60.0  # torchrun can wait for a lost node for ever; a restart takes it less
# Without it the processes of a restart find the addresses of those before them, and call the dead (torchrun 2.13).
RESTARTS_WORK = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


class Launched:
    """A running launcher and the training processes below it."""

    def __init__(self, command: Sequence[str], codes: Path) -> None:
        self.is_stopped = False
        self._codes, self._above = codes, launchers_above()
        for number in (signal.SIGINT, signal.SIGUSR1):  # a launcher must not die of what is meant for its processes
            signal.signal(number, signal.SIG_IGN)
        environment = {**RESTARTS_WORK, **os.environ, EXIT_CODES: str(codes)}
        self._launcher = psutil.Popen(command, env=environment)
        # Sets are replaced, never grown: the signal handler may run while the main thread reads one.
        self._workers: frozenset[psutil.Process] = frozenset()
        self._signalled: frozenset[psutil.Process] = frozenset()
        for number in SIGNALS:
            signal.signal(number, self.stop)

    def stop(self, number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Ask the training processes to save and end; the launcher ends with them."""
        self.is_stopped = True
        self._signalled = self._find_workers()
        _terminate(self._signalled)

    def wait(self) -> int:
        """Until all have ended; the exit code of the training processes."""
        seen_at = time.monotonic()
        while (code := self._ended()) is None:
            if not self.is_stopped and not all(map(is_alive, self._above)):
                self.stop()  # DVC forwards no signal when it dies of one
            if (
                self.is_stopped and self._find_workers() > self._signalled
            ):  # torchrun with restarts left starts new ones
                _terminate([self._launcher, *self._workers - self._signalled])
                self._signalled = self._workers
            if any(map(is_alive, self._find_workers())) or not self._workers:
                seen_at = time.monotonic()
            elif time.monotonic() - seen_at > SECONDS_WITHOUT_WORKERS:
                self._launcher.kill()
        # A launcher that was killed leaves its processes; they notice, save and go.
        psutil.wait_procs(self._workers, timeout=SECONDS_TO_SAVE)
        if code == 0:
            return 0
        if self.is_stopped:
            return EXIT_INTERRUPTED
        if (found := code_of_all(self._codes)) is not None:
            return found
        return code if code > 0 else 128 - code  # as a shell has it after a signal

    def _ended(self) -> int | None:
        try:
            return int(self._launcher.wait(SECONDS_BETWEEN_LOOKS))
        except psutil.TimeoutExpired:
            return None

    def _find_workers(self) -> frozenset[psutil.Process]:
        """All training processes so far; a launcher may start others for those that failed."""
        with contextlib.suppress(psutil.Error):
            below = self._launcher.children(recursive=True)
            self._workers |= {one for one in below if not is_launcher(one)}
        return self._workers


def _terminate(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()


def launch(command: Sequence[str]) -> int:
    """Run `command` to its end; the exit code.

    Raises:
        OSError: it cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="charlstm-") as folder:
        return Launched(command, Path(folder)).wait()
