"""Busy cores are found, and it is said what to do."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import psutil

from pipeline.doctor import cores
from pipeline.doctor.cores import Busy


@contextlib.contextmanager
def spinning() -> Iterator[psutil.Process]:
    """A process that works, as a stranger: not below this one."""
    start = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'while True: pass'], stdout=-3).pid)"
    done = subprocess.run([sys.executable, "-c", start], stdout=subprocess.PIPE, text=True, check=True)
    process = psutil.Process(int(done.stdout))
    try:
        yield process
    finally:
        process.kill()


def test_busy_processes_are_found() -> None:
    with spinning() as process:
        found = cores.busy_processes(1.0)
    assert process.pid in [one.pid for one in found]
    assert process.pid not in [one.pid for one in cores.busy_processes(0.1)] and os.getpid() not in [
        one.pid for one in found
    ]


def test_what_is_said_of_busy_cores() -> None:
    busy = [Busy(0.9, "python3", 11), Busy(0.3, "make", 12)]
    (finding,) = cores.beside(busy, 4, 4)
    assert finding.text == (
        "cores: 1.2 of 4 are busy (python3, process 11: 0.9, make, process 12: 0.3); a training with 4 threads beside "
        "them is many times slower: end them, or set OMP_WAIT_POLICY=passive or OMP_NUM_THREADS=2"
    )
    assert not finding.is_error
    assert (
        not list(cores.beside(busy, 4, 2)) and not list(cores.beside(busy, 2, 1)) and not list(cores.beside([], 4, 4))
    )
    assert not list(cores.beside(busy[1:], 4, 4))
