"""A lost process that takes the others with it: exit code 75, KILLED in MLflow, and the next start resumes.

So it goes under NCCL, by torch's documentation: its watchdog aborts what has lost another process, and no exception
comes. Here it is simulated, over gloo: SIGABRT is sent to workers. No watchdog of NCCL was seen.
"""

import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from benchmarks.projects import ACCELERATE, LAUNCH, results, run, start, training_command, write_params

pytestmark = pytest.mark.slow  # one of them is run by `make torture`, and so by CI
ABORT, KILL = signal.SIGABRT, signal.SIGKILL
EPOCHS = {"train.epochs": 4, "train.early_stopping_epochs": None, "train.log_every_steps": 7}
TWO = [*LAUNCH, *training_command(2)]
ALONE = [*LAUNCH, *ACCELERATE, "-m", "pipeline.train"]


@pytest.fixture(scope="module")
def reference(encoded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by two processes that nobody disturbs."""
    folder = tmp_path_factory.mktemp("reference") / "project"
    shutil.copytree(encoded, folder)
    write_params(folder, EPOCHS)
    assert run(folder, training_command(2), folder / "log") == 0, (folder / "log").read_text()
    return folder


@pytest.fixture
def project(encoded: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(encoded, folder)
    write_params(folder, EPOCHS)
    return folder


def end_workers(process: subprocess.Popen[bytes], signals: Sequence[signal.Signals]) -> None:
    """By these signals, at the same moment: none of them can say a last word."""
    workers = [one for one in psutil.Process(process.pid).children(recursive=True) if "pipeline.train" in one.cmdline()]
    workers = [one for one in workers if one.cmdline()[1:] == ["-u", "-m", "pipeline.train"]]
    workers.sort(key=lambda one: int(one.environ().get("RANK", "0")))
    assert len(workers) >= len(signals)
    for one in workers:
        one.suspend()
    for one, number in zip(workers, signals, strict=False):
        one.send_signal(number)
    for one in workers:
        one.resume()


def wait_until(process: subprocess.Popen[bytes], log: Path, words: str, project: Path | None = None) -> None:
    """It has said `words`, and there is a checkpoint in `project`."""
    deadline = time.monotonic() + 120
    while words not in log.read_text() or (project is not None and not checkpoints(project)):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def checkpoints(project: Path) -> list[Path]:
    return list(project.glob(".charlstm/*/step-*/COMPLETE.json"))


def runs(project: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(project / "mlflow.db")) as connection:
        return connection.execute("select run_uuid, status from runs").fetchall()


def status_when_known(project: Path) -> tuple[str, str]:
    """Its sender says it, after the training; a busy machine gives it little time."""
    deadline = time.monotonic() + 240
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
    project: Path, reference: Path, tmp_path: Path, signals: list[signal.Signals], is_saved: bool
) -> None:
    log = tmp_path / "log"
    process = start(project, TWO, log, CHARLSTM_CHECKPOINT_SECONDS="0.3" if is_saved else "1000")
    wait_until(process, log, "epoch 1/", project if is_saved else None)
    end_workers(process, signals)
    assert process.wait(timeout=60) == 75, log.read_text()
    assert "ERROR: interrupted: process" in log.read_text()
    assert "the same command resumes from the last checkpoint, if any" in log.read_text()
    assert bool(checkpoints(project)) == is_saved
    run_id, status = status_when_known(project)
    assert status == "KILLED"

    assert run(project, TWO, log) == 0, log.read_text()
    assert ("resuming from the checkpoint of step" in log.read_text()) == is_saved
    assert results(project) == results(reference)
    assert runs(project) == [(run_id, "FINISHED")]


@pytest.mark.parametrize(("number", "code"), [(ABORT, 1), (KILL, 75)])
def test_one_process_alone_has_no_other_to_lose(
    project: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Its abort is a failed check in C++ code, and would come again."""
    log = tmp_path / "log"
    process = start(project, ALONE, log, CHARLSTM_CHECKPOINT_SECONDS="0.3")
    wait_until(process, log, "epoch 1/", project)
    end_workers(process, [number])
    assert process.wait(timeout=60) == code, log.read_text()
    assert ("process 0 of 1\nFatal Python error: Aborted" in log.read_text()) == (number == ABORT)
    assert status_when_known(project)[1] == "KILLED"
