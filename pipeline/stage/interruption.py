"""Being asked to stop: by a signal, or because the launcher or DVC above this process is gone.

A scheduler's early warning (SIGUSR1), SIGTERM, Ctrl-C and a dropped terminal (SIGHUP) ask to stop; what runs may end
its step and save. Nobody forwards a signal when `accelerate launch` or `dvc repro` dies of one, so each process looks
whether they still live.
"""

import contextlib
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

from pipeline.stage.exit_codes import EXIT_CODES, EXIT_INTERRUPTED, record_exit_code

log = logging.getLogger("charlstm")

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BEFORE_SECOND_CTRL_C = 1.0  # a Ctrl-C after that ends at once
SECONDS_TO_UNWIND = 4.0
IGNORED_BY_LAUNCHER = "CHARLSTM_IGNORED_BY_LAUNCHER"  # signals that a training process inherits as ignored
LAUNCHERS = {
    *("accelerate", "accelerate.commands.launch", "dvc", "pipeline.launch", "torch.distributed.run", "torchrun")
}
PROGRAMS = ("charlstm", "pipeline.cli")  # whose command `reproduce` starts stages, too


class Interruption:
    """Whether this process was asked to stop.

    Until the work asks for the first time, it has no steps to finish (a model is built, a checkpoint read), which may
    take minutes: the first request then raises KeyboardInterrupt on the main thread.
    """

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._requested_at = 0.0
        self._is_polled = False

    def should_stop(self) -> bool:
        """True from the first request on."""
        self._is_polled = True
        return self._requested.is_set()

    @property
    def is_requested(self) -> bool:
        """The same for who only waits, and asks from another thread: the main thread has no steps to finish yet."""
        return self._requested.is_set()

    def request(self) -> None:
        """Make the request, from any thread."""
        if not self._is_polled and threading.current_thread() is not threading.main_thread():
            os.kill(os.getpid(), signal.SIGTERM)  # only signals reach the main thread
        elif not self._requested.is_set():
            self._requested_at = time.monotonic()
            self._requested.set()
            if not self._is_polled:
                raise KeyboardInterrupt

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first signal asks; a later Ctrl-C raises KeyboardInterrupt."""
        if number == signal.SIGINT and self._requested.is_set():
            if time.monotonic() - self._requested_at > SECONDS_BEFORE_SECOND_CTRL_C:
                raise KeyboardInterrupt
            return
        self.request()

    def end_if_stuck(self) -> None:
        """End the process at once if it has not begun its steps: there is nothing to save.

        Python's handlers wait for the end of a call into torch, which can take minutes for one large matrix.
        """
        if not self._is_polled:
            log.error("interrupted")
            record_exit_code(EXIT_INTERRUPTED)
            os._exit(EXIT_INTERRUPTED)


@contextmanager
def handle_signals() -> Iterator[Interruption]:
    """Take signals as requests, and watch the launchers, while in the context. Call it on the main thread."""
    interruption, is_over = Interruption(), threading.Event()
    signals = without_ignored(SIGNALS)
    woken, wake = os.pipe()  # what the system writes a signal's number into, whatever the main thread does
    os.set_blocking(wake, False)
    watcher = threading.Thread(
        target=_watch, args=(interruption, is_over, woken, set(signals)), daemon=True, name="watch launchers"
    )
    previous = {number: signal.signal(number, interruption.on_signal) for number in signals}
    previous_wake = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    watcher.start()
    try:
        yield interruption
    finally:
        is_over.set()
        signal.set_wakeup_fd(previous_wake)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(wake)


def without_ignored(names: Iterable[str]) -> list[signal.Signals]:
    """The signals of these names, but not those that are ignored: under `nohup` work outlives its terminal.

    An ignored SIGINT says nothing: a shell does that to all that a script starts with `&`. Nor does one that
    `pipeline.launch` ignores for the launcher's sake.
    """
    not_meant = {"SIGINT", *(os.environ.get(IGNORED_BY_LAUNCHER, "").split() if EXIT_CODES in os.environ else ())}
    numbers = [getattr(signal, name) for name in names]
    return [number for number in numbers if number.name in not_meant or signal.getsignal(number) != signal.SIG_IGN]


def is_launcher(process: psutil.Process) -> bool:
    """Whether a process is DVC or something that starts training processes."""
    words = [Path(word).name for word in command_of(process)[:5]]
    if words and words[0].startswith("python"):
        words = words[1:]
    while words and words[0].startswith("-"):  # options of Python's, `-m` among them
        words = words[1:]
    program, command = [*words, "", ""][:2]
    return program in LAUNCHERS or (program in PROGRAMS and command == "reproduce")


def pid_of_launcher(pids: Collection[int]) -> int | None:
    """The first of these process numbers that is a living launcher's."""
    for pid in sorted(pids):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if is_alive(process) and is_launcher(process):
                return pid
    return None


def command_of(process: psutil.Process) -> list[str]:
    """Its command line; empty if it is gone, or another user's."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def launchers_above() -> list[psutil.Process]:
    """This process's parents, up to the highest that is a launcher."""
    above = psutil.Process().parents()
    highest = max((index for index, process in enumerate(above) if is_launcher(process)), default=-1)
    return above[: highest + 1]


def _watch(interruption: Interruption, is_over: threading.Event, woken: int, signals: set[signal.Signals]) -> None:
    watched = launchers_above()
    while not is_over.is_set():
        if not all(map(is_alive, watched)):
            watched = []
            interruption.request()
        is_ready, _, _ = select.select([woken], [], [], SECONDS_BETWEEN_LOOKS)
        if is_ready and signals & set(os.read(woken, 100)) and not is_over.wait(SECONDS_TO_UNWIND):
            interruption.end_if_stuck()
    os.close(woken)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still does anything; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
