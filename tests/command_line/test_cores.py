"""Busy cores are found, and it is said what to do."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from charlstm.params import Params
from pipeline.doctor import machine
from pipeline.doctor.machine import Busy


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
        found = machine.busy_processes(1.0)
    assert process.pid in [one.pid for one in found]
    assert process.pid not in [one.pid for one in machine.busy_processes(0.1)] and os.getpid() not in [
        one.pid for one in found
    ]


def test_what_is_said_of_busy_cores() -> None:
    busy = [Busy(0.9, "python3", 11), Busy(0.3, "make", 12)]
    (finding,) = machine.beside(busy, 4, 4)
    assert finding.text == (
        "cores: 1.2 of 4 are busy (python3, process 11: 0.9, make, process 12: 0.3); a training with 4 threads beside "
        "them takes about 1.3 times as long: wait for them, or end them, to have all cores"
    )
    assert not finding.is_error
    assert (
        not list(machine.beside(busy, 4, 2))
        and not list(machine.beside(busy, 2, 1))
        and not list(machine.beside([], 4, 4))
    )
    assert not list(machine.beside(busy[1:], 4, 4))


def test_threads_are_counted_as_the_training_will_have_them(
    tmp_path: Path, params: Callable[[Path, dict[str, int]], Params], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small training has one thread, which waits for no other."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr(machine, "num_cores", lambda: 2)
    monkeypatch.setattr(machine, "busy_processes", lambda: [Busy(1.0, "python3", 11)])
    large = params(tmp_path, {"train.batch_size": 32, "model.hidden_size": 320})
    small = params(tmp_path, {"train.batch_size": 32, "model.hidden_size": 32})
    (finding,) = machine.check_cores(large)
    assert "a training with 2 threads beside them takes about 1.5 times as long" in finding.text
    assert [one.text for one in machine.check_cores(None)] == [finding.text]
    assert list(machine.check_cores(small)) == []
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert len(list(machine.check_cores(small))) == 1
