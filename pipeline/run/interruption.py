"""Being asked to stop by a signal: Ctrl-C, SIGTERM, SIGHUP (a closed terminal), SIGUSR1 (a scheduler's early warning).

DVC and `accelerate launch` forward no signal that kills them. So the kernel is asked to send SIGTERM then.
"""

import ctypes
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

from charlstm.errors import ParamsError

SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
LAUNCHER = "CHARLSTM_LAUNCHER"  # number of the process that starts this one: DVC, `accelerate launch` or torchrun
STARTED_BY = (
    "DVC_STAGE",
    LAUNCHER,
    "TORCHELASTIC_RUN_ID",
    "ACCELERATE_MIXED_PRECISION",
)  # each starter sets one
PR_SET_PDEATHSIG = 1  # prctl(2)


class Interruption:
    """Whether this process was asked to stop.

    Until the work polls it for the first time, it has no steps to finish: a request then raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.is_requested = self._is_polled = False

    def poll(self) -> bool:
        """True from the first request on. From the first call on, a request raises nothing."""
        self._is_polled = True
        return self.is_requested

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Take a signal as a request."""
        is_first, self.is_requested = not self.is_requested, True
        if is_first and not self._is_polled:
            raise KeyboardInterrupt


@contextmanager
def handle_signals() -> Iterator[Interruption]:
    """Take signals as requests while in the context. Call it on the main thread."""
    interruption = Interruption()
    previous = {
        number: signal.signal(number, interruption.on_signal) for number in without_ignored(SIGNALS)
    }
    try:
        yield interruption
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def without_ignored(names: Iterable[str]) -> list[signal.Signals]:
    """The signals of these names, but not those that are ignored: under `nohup` work outlives its terminal.

    An ignored SIGINT says nothing: a shell does that to all that a script starts with `&`.
    """
    numbers = [getattr(signal, name) for name in names]
    return [
        number
        for number in numbers
        if number.name == "SIGINT" or signal.getsignal(number) != signal.SIG_IGN
    ]


def sigterm_requester() -> Callable[[], object]:
    """Return a function that asks Linux to send SIGTERM when the parent dies. The request survives `exec`.

    The library is loaded here: between `fork` and `exec`, a process that had threads may not do so.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # macOS has none
    return lambda: prctl and prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def stop_with_parent() -> None:
    """Have this process stop when its parent (DVC or the launcher) dies, or at once if it has died already."""
    if not any(name in os.environ for name in STARTED_BY):
        return
    launcher = os.environ.get(LAUNCHER)
    if launcher and not (launcher.isdecimal() and len(launcher) < 10):
        raise ParamsError(f"{LAUNCHER}: expected the number of a process, got {launcher[:60]!r}")
    sigterm_requester()()
    # A process whose launcher has died belongs to another parent, usually process 1.
    if launcher and int(launcher) not in [parent.pid for parent in psutil.Process().parents()]:
        signal.raise_signal(signal.SIGTERM)
