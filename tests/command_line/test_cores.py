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
from pipeline.stage.waiting import OF_THE_USER


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
        "them takes 1.3 times as long or a little more: end them to have all cores"
    )
    assert not finding.is_error
    (finding,) = machine.beside(busy, 4, 4, spins=True)
    assert finding.text.endswith(
        "beside them is many times slower, as its threads spin while they wait: end them, or unset OMP_WAIT_POLICY and "
        "GOMP_SPINCOUNT"
    )
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
    for name in OF_THE_USER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "num_cores", lambda: 2)
    monkeypatch.setattr(machine, "_allowed", lambda: 2)
    monkeypatch.setattr(machine, "busy_processes", lambda: [Busy(1.0, "python3", 11)])
    large = params(tmp_path, {"train.batch_size": 32, "model.hidden_size": 320})
    small = params(tmp_path, {"train.batch_size": 32, "model.hidden_size": 32})
    (finding,) = machine.check_cores(large)
    assert "a training with 2 threads beside them takes 1.5 times as long" in finding.text
    assert [one.text for one in machine.check_cores(None)] == [finding.text]
    assert list(machine.check_cores(small)) == []
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert len(list(machine.check_cores(small))) == 1


@pytest.mark.parametrize(
    ("chosen", "spins"),
    [
        ({}, False),
        ({"GOMP_SPINCOUNT": "1000"}, False),
        ({"GOMP_SPINCOUNT": "300000"}, True),
        ({"GOMP_SPINCOUNT": "infinity"}, True),
        ({"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "active"}, False),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, True),
    ],
)
def test_threads_that_spin_as_the_user_wants_are_many_times_slower(
    chosen: dict[str, str], spins: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in OF_THE_USER:
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine, "_allowed", lambda: 2)
    monkeypatch.setattr(machine, "busy_processes", lambda: [Busy(1.0, "python3", 11)])
    monkeypatch.setattr(machine, "num_cores", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    (finding,) = machine.check_cores(None)
    assert ("many times slower" in finding.text) == spins
