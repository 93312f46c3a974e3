"""Cores that are busy already: the threads of a training wait for each other at every step, so for the slowest.

Beside other work ours sleep while they wait (`pipeline.common.waiting`), and get their share of the cores. Where the
user lets them spin, they keep the other process, and so the slowest thread, from its core.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

import psutil

from charlstm.params import Params
from pipeline.common.hardware import num_cores, num_threads, work_of
from pipeline.common.settings import MAX_THREADS
from pipeline.common.waiting import OF_THE_USER
from pipeline.doctor.finding import Finding, warning

SECONDS = 0.3
MIN_BUSY = 0.5  # cores; less is the noise of any machine
MIN_NAMED = 0.1
MOST_SPINS = 10_000


class Busy(NamedTuple):
    """A process and the cores that it keeps busy."""

    cores: float
    name: str
    pid: int


def check(params: Params | None) -> Iterator[Finding]:
    """The threads that a training of `params` will have, beside what else runs now."""
    yield from thread_faults(os.environ.get("OMP_NUM_THREADS"), _allowed())
    if os.environ.get("OMP_WAIT_POLICY", "").lower() != "passive":
        yield from beside(busy_processes(), _allowed(), _num_threads(params), spins=_spin_long())


def thread_faults(value: str | None, allowed: int) -> Iterator[Finding]:
    """`value` is that of OMP_NUM_THREADS."""
    if value is not None and value.isdecimal() and allowed < int(value) <= MAX_THREADS:  # else: `settings` says so
        yield warning(
            f"OMP_NUM_THREADS: {value} threads on {allowed} cores wait for each other, and training is many times "
            f"slower: set at most {allowed}"
        )


def beside(busy: list[Busy], allowed: int, threads: int, *, spins: bool = False) -> Iterator[Finding]:
    """What to say of `busy` processes on a machine where `allowed` cores may be used by `threads` threads.

    A single thread waits for no other. `spins`: threads spin for long while they wait.
    """
    cores = sum(one.cores for one in busy)
    if threads == 1 or cores < MIN_BUSY or cores + threads <= allowed:
        return
    named = ", ".join(f"{one.name}, process {one.pid}: {one.cores:.1f}" for one in busy[:3])
    cost = f"takes {(cores + threads) / allowed:.1f} times as long or a little more: end them to have all cores"
    if spins:
        cost = "is many times slower, as its threads spin while they wait: end them, or unset " + " and ".join(
            OF_THE_USER
        )
    yield warning(
        f"cores: {cores:.1f} of {allowed} are busy ({named}); a training with {threads} threads beside them {cost}"
    )


def busy_processes(seconds: float = SECONDS) -> list[Busy]:
    """Other processes that work now, the busiest first; those above and below this one belong to it."""
    before, since = _times(), time.monotonic()
    time.sleep(seconds)
    after, elapsed = _times(), time.monotonic() - since
    me = psutil.Process()
    own = {me, *me.parents(), *me.children(recursive=True)}
    found = [
        Busy((used - before[one]) / elapsed, _name(one), one.pid)
        for one, used in after.items()
        if one in before and one not in own
    ]
    return sorted((one for one in found if one.cores >= MIN_NAMED), reverse=True)


def _times() -> dict[psutil.Process, float]:
    """Seconds of processor time that each process has used."""
    found = {}
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            used = one.cpu_times()
            found[one] = used.user + used.system
    return found


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "ended since"


def _spin_long() -> bool:
    """Whether the user wants threads to spin for milliseconds, beside other work too."""
    count = os.environ.get("GOMP_SPINCOUNT", "")
    is_long = not count.isdecimal() or int(count) > MOST_SPINS
    return is_long if count else os.environ.get("OMP_WAIT_POLICY", "").lower() == "active"


def _allowed() -> int:
    """Hyper-threads that this process may use; with a container's quota, its cores."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = num_cores()
    has_quota = cores < min(affinity, psutil.cpu_count(logical=False) or affinity)
    return cores if has_quota else affinity


def _num_threads(params: Params | None) -> int:
    value = os.environ.get("OMP_NUM_THREADS", "")
    if value.isdecimal() and int(value) > 0:
        return int(value)
    return num_cores() if params is None else num_threads(work_of(params), num_cores())
