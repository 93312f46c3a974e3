"""Being asked to stop: by a signal, or because the launcher or DVC above this process is gone.

A scheduler's early warning (SIGUSR1), SIGTERM, Ctrl-C and a dropped terminal (SIGHUP) ask politely; what runs may end
its step and save. Nobody forwards a signal when `accelerate launch` or `dvc repro` dies of one, so each process looks
whether they still live.
"""

import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_UNTIL_IMPATIENT = 1.0  # Ctrl-C again after that means: now
LAUNCHERS = {"accelerate", "accelerate.commands.launch", "dvc", "pipeline.launch", "torch.distributed.run", "torchrun"}


class Interruption:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._requested_at = 0.0

    def should_stop(self) -> bool:
        """True from the first request on."""
        return self._requested.is_set()

    def request(self) -> None:
        """Make the request."""
        if not self._requested.is_set():
            self._requested_at = time.monotonic()
            self._requested.set()

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first signal asks; a later Ctrl-C raises KeyboardInterrupt."""
        if number == signal.SIGINT and self._requested.is_set():
            if time.monotonic() - self._requested_at > SECONDS_UNTIL_IMPATIENT:
                raise KeyboardInterrupt
            return
        self.request()


@contextmanager
def handle_signals() -> Iterator[Interruption]:
    """Take signals as requests, and watch the launchers, while in the context. Call it on the main thread."""
    interruption, is_over = Interruption(), threading.Event()
    previous = {number: signal.signal(number, interruption.on_signal) for number in without_ignored(SIGNALS)}
    watcher = threading.Thread(target=_watch, args=(interruption, is_over), daemon=True, name="watch launchers")
    watcher.start()
    try:
        yield interruption
    finally:
        is_over.set()
        for number, handler in previous.items():
            signal.signal(number, handler)


def without_ignored(names: Iterable[str]) -> list[signal.Signals]:
    """The signals of these names, but not an ignored SIGHUP: under `nohup` work outlives its terminal."""
    numbers = [getattr(signal, name) for name in names]
    is_nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [number for number in numbers if not (number == signal.SIGHUP and is_nohup)]


def is_launcher(process: psutil.Process) -> bool:
    """Whether a process is DVC or something that starts training processes."""
    try:
        return any(Path(word).name in LAUNCHERS for word in process.cmdline()[:4])
    except psutil.Error:
        return False


def launchers_above() -> list[psutil.Process]:
    """This process's parents, up to the highest that is a launcher."""
    above = psutil.Process().parents()
    highest = max((index for index, one in enumerate(above) if is_launcher(one)), default=-1)
    return above[: highest + 1]


def _watch(interruption: Interruption, is_over: threading.Event) -> None:
    watched = launchers_above()
    while watched and not is_over.wait(SECONDS_BETWEEN_LOOKS):
        if not all(map(is_alive, watched)):
            interruption.request()
            return


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still does anything; one that its parent has not yet buried does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
