"""Threads that wait for others spin on idle cores and sleep beside other work."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.projects import ROOT
from pipeline.stage.waiting import CALM_SECONDS, OF_THE_USER, SECONDS_BETWEEN, Throttle, libgomp_in, run_delay, watch

linux = pytest.mark.skipif(sys.platform != "linux" or os.cpu_count() == 1, reason="libgomp is torch's on Linux alone")
# Seconds of processor time that threads take while there is nothing to do, free, throttled and free again.
SPUN = """
import time, torch
from pipeline.stage.waiting import Throttle

numbers = torch.ones(1_000_000)
torch.set_num_threads(2)

def spun():
    before = time.process_time()
    for _ in range(40):
        numbers.add_(1)
        time.sleep(0.01)
    return time.process_time() - before

throttle = Throttle()
throttle.start()
throttle.start()  # it is there
print(spun())
throttle.stop()
print(spun())
throttle.start()
print(spun())
"""
BESIDE_OTHERS = """
import os, subprocess, sys, threading, time, torch
from pipeline.stage.waiting import share_cores

def is_throttled():
    return any(thread.name == "throttle" for thread in threading.enumerate())

busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * os.cpu_count())]
try:
    share_cores()
    share_cores()  # it watches
    numbers, started = torch.ones(1_000_000), time.monotonic()
    while not is_throttled() and time.monotonic() - started < float(sys.argv[1]):
        numbers.add_(1)
finally:
    for process in busy:
        process.kill()
print(is_throttled(), sum(thread.name == "share_cores" for thread in threading.enumerate()))
"""


def run(script: str, *arguments: str, **chosen: str) -> list[str]:
    """What `script` prints, in an environment where the user chose nothing else."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_THE_USER}
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment | chosen, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.split()


@linux
def test_a_second_team_lets_threads_sleep_while_they_wait() -> None:
    throttled, free, again = map(float, run(SPUN))
    assert max(throttled, again) < free / 2


@pytest.mark.slow
@linux
@pytest.mark.parametrize(
    ("chosen", "seconds", "expected"),
    [({}, 60, ["True", "1"]), ({"OMP_WAIT_POLICY": "passive"}, 1, ["False", "0"])],
)
def test_beside_busy_processes_threads_sleep_unless_the_user_chose(
    chosen: dict[str, str], seconds: int, expected: list[str]
) -> None:
    assert run(BESIDE_OTHERS, str(seconds), **chosen) == expected


class Recorder(Throttle):
    """Knows what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def start(self) -> None:
        self.told.append("start")

    def stop(self) -> None:
        self.told.append("stop")


def told(*delays: float | None) -> list[str]:
    """What the throttle is told when threads have been in line for so long in all."""
    recorder, left = Recorder(), iter(delays)
    with contextlib.suppress(StopIteration):
        watch(lambda: next(left), recorder)
    return recorder.told


def test_threads_may_spin_again_only_after_a_while_without_other_work() -> None:
    calm = round(CALM_SECONDS / SECONDS_BETWEEN)
    assert told(0.0, 1.0, 2.0, 2.0) == ["start", "start"]
    assert told(1.0, 1.001, 1.002) == []
    found = told(0.0, 1.0, *[1.0] * (calm + 2))
    assert found[0] == "start" and 1 <= len(found[1:]) <= 3 and set(found[1:]) == {"stop"}


def test_where_nobody_counts_the_delay_threads_sleep() -> None:
    assert told(None, None) == ["start"]


def tasks(folder: Path) -> Iterator[Path]:
    """Of a process with two threads, one of which is ending."""
    for number, text in ((7, "100 1500000000 3"), (8, "5 250000000 1")):
        file = folder / str(number) / "schedstat"
        file.parent.mkdir()
        file.write_text(text)
        yield file


def test_the_delay_is_that_of_all_threads(tmp_path: Path) -> None:
    list(tasks(tmp_path))
    (tmp_path / "9").mkdir()
    (tmp_path / "9/schedstat").symlink_to("nothing")
    assert run_delay(tmp_path) == 1.75
    assert run_delay(tmp_path / "nothing") is None


def test_libgomp_is_found_in_any_folder() -> None:
    maps = """\
7f0000000000-7f0000001000 r--p 00000000 fe:00 1 /my models/.venv/torch/lib/libgomp.so.1
7f0000001000-7f0000002000 r-xp 00001000 fe:00 1                 /my models/.venv/torch/lib/libgomp.so.1
7f0000002000-7f0000003000 r-xp 00002000 fe:00 1                 /my models/.venv/torch/lib/libgomp.so.1
7f0000003000-7f0000004000 r-xp 00000000 fe:00 2 /usr/lib/libgomp-a34b3233.so.1.0.0
7f0000004000-7f0000005000 r-xp 00000000 fe:00 3 /usr/lib/libgomp.so.1 (deleted)
7f0000005000-7f0000006000 r-xp 00000000 fe:00 4 /usr/lib/libgompress/other.so
7f0000006000-7f0000007000 r-xp 00000000 00:00 0
"""
    assert libgomp_in(maps) == ["/my models/.venv/torch/lib/libgomp.so.1", "/usr/lib/libgomp-a34b3233.so.1.0.0"]
