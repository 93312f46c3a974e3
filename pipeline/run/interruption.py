"""Interruption of a process by a signal: Ctrl-C, SIGTERM, SIGHUP (a closed terminal), SIGUSR1.

Schedulers send SIGUSR1 as an early warning. DVC and `accelerate launch` do not forward the signals
that end them, so Linux is asked to send SIGTERM to their children.
"""

import ctypes
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
# This variable holds the process ID of the parent: DVC, `accelerate launch` or torchrun.
LAUNCHER = "CHARLSTM_LAUNCHER"
# Each kind of parent process sets one of these environment variables.
STARTED_BY = ("DVC_STAGE", LAUNCHER, "TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION")
PR_SET_PDEATHSIG = 1  # prctl(2)
Handler = Callable[[int, FrameType | None], None]


class Interruption:
    """A request to stop this process, made by a signal.

    Until the work polls for the first time, it has no step to finish. So an early request raises
    KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._is_polled = False

    def poll(self) -> bool:
        """Return True if a stop was requested. After the first call, a signal raises no error."""
        self._is_polled = True
        return self.is_requested

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal as a request to stop."""
        is_first = not self.is_requested
        self.is_requested = True
        if is_first and not self._is_polled:
            raise KeyboardInterrupt


@contextmanager
def handled_signals(names: Iterable[str], handler: Handler) -> Iterator[None]:
    """Handle signals with `handler`, except ignored signals. Use this on the main thread only."""
    previous = {number: signal.signal(number, handler) for number in without_ignored(names)}
    try:
        yield
    finally:
        for number, former in previous.items():
            signal.signal(number, former)


def without_ignored(names: Iterable[str]) -> list[signal.Signals]:
    """Return the signals with these names, except signals that this process ignores.

    Under `nohup`, SIGHUP is ignored, so that work survives its terminal. SIGINT is always returned,
    because a shell script ignores SIGINT in every command that it starts with `&`.
    """
    numbers = (signal.Signals[name] for name in names)
    return [
        number
        for number in numbers
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN
    ]


def sigterm_requester() -> Callable[[], object]:
    """Return a function that asks Linux to send SIGTERM when the parent dies.

    The request survives `exec`. The C library is loaded here, because a forked process must not
    load libraries before `exec` if its parent has threads.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # macOS has no prctl
    return lambda: prctl and prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop_with_parent() -> None:
    """Stop this process when its parent (DVC or the launcher) dies, or now if it has died."""
    if not any(name in os.environ for name in STARTED_BY):
        return
    sigterm_requester()()
    # When its launcher dies, a process gets a new parent, usually process 1.
    launcher = os.environ.get(LAUNCHER)
    if launcher and int(launcher) not in [parent.pid for parent in psutil.Process().parents()]:
        signal.raise_signal(signal.SIGTERM)
