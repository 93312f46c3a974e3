"""Which process of a training is slow: all others wait for it at every step.

All processes take as long for a step, so steps do not tell. A forward pass waits for nobody. Its time is measured on
each process, and travels with the losses.

Shapes: N processes.
"""

import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

SLOW = 1.5  # times the median
SECONDS_OF_LOOKING = 8.0  # a single step may be slow on any machine
NUM_LOOKS = 6  # in a row, until it is told: so it is known within a minute


class ForwardClock:
    """The time that forward passes take on a device, without waiting for it."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """A context in which a forward pass is computed."""
        if self._is_cuda:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            begin.record()
            yield
            end.record()
            self._events.append((begin, end))
        else:
            started = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - started

    def read(self) -> float:
        """The seconds since it was read last; waits for the device."""
        for begin, end in self._events:
            end.synchronize()
            self._seconds += begin.elapsed_time(end) / 1000
        seconds, self._seconds = self._seconds, 0.0
        self._events.clear()
        return seconds


class SlowProcesses:
    """Finds processes that have been slower than the median by half for a minute, each once until it recovers.

    `num_rows_N` are the rows that each computes. Where these differ, times may differ as much.
    """

    def __init__(self, num_rows_N: Sequence[int]) -> None:
        self._slow = SLOW * max(num_rows_N) / min(num_rows_N)
        self._looked: float | None = None  # at which time
        self._seconds_N: list[float] = []  # since then
        self._num_slow = Counter[int]()  # looks in a row, by rank

    def find(self, seconds_N: Sequence[float], now: float) -> list[tuple[int, float]]:
        """Ranks, each with how many times as long as the median its forward passes take; `seconds_N` are those since
        the last call, or nothing if no step was taken since.

        Of two processes, the faster one is the median.
        """
        if not seconds_N:
            return []
        before_N = self._seconds_N or [0.0] * len(seconds_N)
        self._seconds_N = [sum(pair) for pair in zip(before_N, seconds_N, strict=True)]
        self._looked = now if self._looked is None else self._looked
        if now - self._looked < SECONDS_OF_LOOKING or not all(self._seconds_N):
            return []
        median = statistics.median_low(self._seconds_N)
        found = []
        for rank, seconds in enumerate(self._seconds_N):
            self._num_slow[rank] = self._num_slow[rank] + 1 if seconds >= self._slow * median else 0
            if self._num_slow[rank] == NUM_LOOKS:
                found.append((rank, seconds / median))
        self._looked, self._seconds_N = now, []
        return found
