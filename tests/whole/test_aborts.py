"""A lost process that takes the others with it: exit code 75, KILLED in MLflow, and the next start resumes.

So it goes under NCCL, by torch's documentation: its watchdog aborts what has lost another process, and no exception
comes. Here it is simulated, over gloo: SIGABRT is sent to workers. No watchdog of NCCL was seen.
"""

import shutil
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from stages import SHORT, checkpoints

from benchmarks.projects import (
    ACCELERATE,
    LAUNCH,
    PYTHON,
    results,
    run,
    start,
    training_command,
    training_processes,
    write_params,
)

pytestmark = pytest.mark.slow  # one of them is run by `make torture`, and so by CI
ABORT, KILL = signal.SIGABRT, signal.SIGKILL
SECONDS = 240  # until something must have happened, on a busy machine
PATIENT = {"CHARLSTM_TRACKING_SECONDS": str(SECONDS)}
TWO = [*LAUNCH, *training_command(2)]
ALONE = [*LAUNCH, *ACCELERATE, "-m", "pipeline.train"]


@pytest.fixture
def project(encoded: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(encoded, folder)
    write_params(folder, SHORT)
    return folder


def end_at_once(workers: Sequence[psutil.Process], signals: Sequence[signal.Signals]) -> None:
    """By these signals, at the same moment: none of them can say a last word."""
    assert len(workers) >= len(signals)
    for one in workers:
        one.suspend()
    for one, number in zip(workers, signals, strict=False):
        one.send_signal(number)
    for one in workers:
        one.resume()


def wait_until(process: subprocess.Popen[bytes], log: Path, words: str, project: Path | None = None) -> None:
    """It has said `words`, and there is a checkpoint in `project`."""
    deadline = time.monotonic() + SECONDS
    while words not in log.read_text() or (project is not None and not checkpoints(project)):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def runs(project: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(project / "mlflow.db")) as connection:
        return connection.execute("select run_uuid, status from runs").fetchall()


def status_when_known(project: Path) -> tuple[str, str]:
    """Its sender says it, after the training; a busy machine gives it little time."""
    deadline = time.monotonic() + SECONDS
    while not (found := runs(project)) or found[0][1] == "RUNNING":
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    ((run_id, status),) = found
    return run_id, status


@pytest.mark.parametrize(
    ("signals", "is_saved"),
    [([ABORT, KILL], True), ([ABORT, ABORT], True), ([ABORT], True), ([ABORT, ABORT], False)],
    ids=["killed-and-aborted", "both-aborted", "one-aborted", "before-any-checkpoint"],
)
def test_what_lost_a_process_ends_with_75_and_resumes_to_the_same_bytes(
    project: Path, trained_by_two: Path, tmp_path: Path, signals: list[signal.Signals], is_saved: bool
) -> None:
    log = tmp_path / "log"
    process = start(project, TWO, log, CHARLSTM_CHECKPOINT_SECONDS="0.3" if is_saved else "1000")
    wait_until(process, log, "epoch 1/", project if is_saved else None)
    workers = training_processes(process)
    end_at_once(workers, signals)
    assert process.wait(timeout=SECONDS) == 75, log.read_text()
    assert not any(one.is_running() for one in workers)
    assert "ERROR: interrupted: process" in log.read_text()
    assert "the same command resumes from the last checkpoint, if any" in log.read_text()
    assert bool(checkpoints(project)) == is_saved
    run_id, status = status_when_known(project)
    assert status == "KILLED"

    assert run(project, TWO, log, **PATIENT) == 0, log.read_text()
    assert ("resuming from the checkpoint of step" in log.read_text()) == is_saved
    assert results(project) == results(trained_by_two)
    assert runs(project) == [(run_id, "FINISHED")]


@pytest.mark.parametrize(("number", "code"), [(ABORT, 1), (KILL, 75)])
def test_one_process_alone_has_no_other_to_lose(
    project: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Its abort is a failed check in C++ code, and would come again."""
    log = tmp_path / "log"
    process = start(project, ALONE, log, CHARLSTM_CHECKPOINT_SECONDS="0.3")
    wait_until(process, log, "epoch 1/", project)
    end_at_once(training_processes(process), [number])
    assert process.wait(timeout=SECONDS) == code, log.read_text()
    assert ("process 0 of 1\nFatal Python error: Aborted" in log.read_text()) == (number == ABORT)
    assert status_when_known(project)[1] == "KILLED"


def test_both_nodes_say_the_same(project: Path, tmp_path: Path) -> None:
    """A worker is killed; that of the other node is aborted, as by NCCL's watchdog. Both nodes are this machine."""
    node = [*PYTHON, "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1", "--rdzv-backend", "c10d"]
    node += ["--rdzv-endpoint", f"127.0.0.1:{free_port()}", "--rdzv-id", "any", "-m", "pipeline.train"]
    log = tmp_path / "log"
    nodes = [start(project, [*LAUNCH, *node], log, CHARLSTM_CHECKPOINT_SECONDS="0.3") for _ in range(2)]
    wait_until(nodes[0], log, "epoch 1/", project)
    end_at_once(training_processes(*nodes), [ABORT, KILL])
    assert [one.wait(timeout=SECONDS) for one in nodes] == [75, 75], log.read_text()
    assert log.read_text().count("the same command resumes from the last checkpoint, if any") == 2
