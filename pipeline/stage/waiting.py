"""How the threads of a computation wait for each other: awake while the cores are theirs, asleep beside other work.

An LSTM's threads wait for each other at each time step, for less time than it takes to wake one. So libgomp, the OpenMP
of torch on Linux, lets them spin, for milliseconds if need be. That is best on idle cores. Beside another busy process
a thread then spins on the core that the last one is waiting for, and a step takes ten times as long.

libgomp chooses once, when it is loaded, but for one rule of its manual (`GOMP_SPINCOUNT`): with more OpenMP threads in
a process than cores, threads that wait sleep almost at once. So a second team of threads that does nothing is made when
there is other work, and ended when there is none. Numbers of threads, and so bits, stay as they are.
"""

import contextlib
import ctypes
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

SECONDS_BETWEEN = 0.25
# Seconds that threads stand in line for a core, in each second. On an idle machine 0.01 at most were seen; beside one
# busy process on 2 cores 0.3 and more.
MOST_DELAY = 0.05
CALM_SECONDS = 2.0  # until threads may spin again
OF_THE_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
TASKS = Path("/proc/self/task")
MAPS = Path("/proc/self/maps")

_started = threading.Lock()


def share_cores() -> None:
    """Watch from now on whether threads of this process stand in line for cores; unless the user chose how they wait.

    Nothing is done where there is no libgomp or no `/proc`. Kernels that do not count the delay get threads that sleep.
    """
    if TASKS.is_dir() and not any(name in os.environ for name in OF_THE_USER) and _started.acquire(blocking=False):
        threading.Thread(target=watch, args=(run_delay, Throttle()), name="share_cores", daemon=True).start()


def watch(run_delay: Callable[[], float | None], throttle: "Throttle") -> None:
    """Start `throttle` while the delay grows by more than MOST_DELAY; stop it after CALM_SECONDS of less. For ever."""
    calm = 0.0
    before, since = run_delay(), time.monotonic()
    while True:
        time.sleep(SECONDS_BETWEEN)
        delay, now = run_delay(), time.monotonic()
        is_crowded = delay is None or before is None or delay - before > MOST_DELAY * (now - since)
        calm = 0.0 if is_crowded else calm + now - since
        if is_crowded:
            throttle.start()
        elif calm > CALM_SECONDS:
            throttle.stop()
        before, since = delay, now


def run_delay(tasks: Path = TASKS) -> float | None:
    """Seconds that the threads of this process have been ready to run without a core; None if nobody counts them.

    Unlike the load of the machine, it is true in a container too. See "schedstats" in the kernel's documentation.
    """
    delays = []
    for file in tasks.glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            delays.append(int(file.read_text().split()[1]))
    return sum(delays) / 1e9 if delays else None


class Throttle:
    """A second team of OpenMP threads, which sleeps. While it is there, threads that wait for others sleep soon."""

    def __init__(self) -> None:
        self._may_end: threading.Event | None = None

    def start(self) -> None:
        """Make the team, unless it is there, or there is no libgomp yet."""
        if self._may_end is not None:
            return
        copies = [ctypes.CDLL(path) for path in libgomp_in(MAPS.read_text())]  # wheels bring their own
        libraries = [library for library in copies if hasattr(library, "GOMP_parallel")]  # its plugins have not
        num_threads = (os.cpu_count() or 1) + 1
        if not libraries or not _may_start(num_threads):  # libgomp would end the process
            return
        self._may_end, is_made = threading.Event(), threading.Event()
        arguments = (libraries, num_threads, is_made, self._may_end)
        threading.Thread(target=_keep_team, args=arguments, name="throttle", daemon=True).start()
        is_made.wait()

    def stop(self) -> None:
        """End the team: it belongs to the thread that made it, and ends with it."""
        if self._may_end is not None:
            self._may_end.set()
        self._may_end = None


def _keep_team(
    libraries: list[ctypes.CDLL], num_threads: int, is_made: threading.Event, may_end: threading.Event
) -> None:
    for library in libraries:
        # What compilers call for `#pragma omp parallel`. Each thread calls free(NULL), which does nothing.
        library.GOMP_parallel(ctypes.CDLL(None).free, None, num_threads, 0)
    is_made.set()
    may_end.wait()


def libgomp_in(maps: str) -> list[str]:
    """The paths of libgomp in the text of `/proc/self/maps`, proc_pid_maps(5). They may have spaces."""
    paths = re.findall(r"^\S+ r-x\S*(?: +\S+){3} +(/.*/libgomp[^/]*\.so[^/ ]*)$", maps, re.MULTILINE)
    return list(dict.fromkeys(paths))


def _may_start(num_threads: int) -> bool:
    """Whether the limits of the user and of the container let this process have so many threads more."""
    may_end, started = threading.Event(), list[threading.Thread]()
    try:
        for _ in range(num_threads):
            thread = threading.Thread(target=may_end.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        return False
    finally:
        may_end.set()
        for thread in started:  # they would count beside libgomp's
            thread.join()
    return True
