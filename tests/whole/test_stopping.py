"""Being asked to stop, by anyone: a checkpoint on disk, exit code 75, KILLED in MLflow, nobody left behind."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML
from stages import SHORT, checkpoints, dvc, run_stages, start_dvc, wait_for

from benchmarks.projects import (
    ACCELERATE,
    LAUNCH,
    PYTHON,
    family,
    results,
    run,
    start,
    training_command,
    training_processes,
    write_params,
)
from pipeline.stage.background import is_in_background

LAUNCHED = [*LAUNCH, *ACCELERATE, "-m", "pipeline.train"]
TORCHRUN = [*LAUNCH, *training_command(2, "--max-restarts", "3")]
LONGER = SHORT | {"train.epochs": 12}  # some seconds, until a request has come through
MAX_CHECKPOINT_AGE_SECONDS = 10


@pytest.fixture
def project(encoded: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(encoded, folder)
    write_params(folder, LONGER)
    return folder


def runs(store: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(store)) as connection:
        return connection.execute("select run_uuid, status from runs").fetchall()


def the_launcher(process: subprocess.Popen[bytes]) -> psutil.Process:
    return family(process)[1]


def the_worker(process: subprocess.Popen[bytes]) -> psutil.Process:
    """The last that was started, but for what feeds MLflow."""
    return [one for one in family(process) if not is_in_background(one)][-1]


@pytest.mark.parametrize(
    ("command", "whom", "number"),
    [
        (LAUNCHED, lambda process: family(process)[0], signal.SIGUSR1),
        pytest.param(training_command(1), the_worker, signal.SIGHUP, marks=pytest.mark.slow),
        pytest.param(LAUNCHED, lambda process: family(process)[0], signal.SIGHUP, marks=pytest.mark.slow),
        pytest.param(LAUNCHED, lambda process: family(process)[0], signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(LAUNCHED, the_launcher, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(LAUNCHED, the_worker, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(TORCHRUN, lambda process: family(process)[0], signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(TORCHRUN, the_launcher, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(training_command(2), the_worker, signal.SIGINT, marks=pytest.mark.slow),
    ],
    ids=["wrapper-usr1", "worker-hup", "wrapper-hup", "wrapper-int", "accelerate-term",
         "worker-term", "elastic-wrapper-term", "elastic-agent-term",
         "one-of-two-workers-int"],
)  # fmt: skip
def test_a_request_to_anyone_stops_all(
    project: Path,
    tmp_path: Path,
    command: list[str],
    whom: Callable[[subprocess.Popen[bytes]], psutil.Process],
    number: signal.Signals,
) -> None:
    log = tmp_path / "log"
    process = start(project, command, log)
    wait_for(log, "epoch 2/", process)
    everyone = family(process)
    whom(process).send_signal(number)
    asked_at = time.time()
    code = process.wait(timeout=120)

    assert code == 75 or "pipeline.launch" not in command, log.read_text()
    assert code != 0
    assert "ERROR: interrupted: stopped as asked, after step" in log.read_text()
    (newest, *_) = sorted(project.glob(".charlstm/*/step-*"), reverse=True)
    assert newest.stat().st_mtime - asked_at < MAX_CHECKPOINT_AGE_SECONDS
    psutil.wait_procs(everyone, timeout=10)
    assert not [one for one in everyone if one.is_running()]
    assert [status for _, status in runs(project / "mlflow.db")] == ["KILLED"]
    assert not (project / "artifacts").exists()


@pytest.mark.slow
def test_under_nohup_training_outlives_its_terminal(project: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    write_params(project, SHORT)
    process = start(project, ["nohup", *LAUNCHED], log)
    wait_for(log, "epoch 1/", process)
    for one in family(process):
        one.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) == 0, log.read_text()
    assert (project / "artifacts/model").exists()


@pytest.mark.slow
def test_the_next_start_resumes_in_the_same_mlflow_run(project: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    write_params(project, SHORT)
    process = start(project, training_command(1), log)
    wait_for(log, "epoch 1/", process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    ((run_id, status),) = runs(project / "mlflow.db")
    assert status == "KILLED"

    assert run(project, training_command(1), log) == 0
    assert re.search(r"resuming from the checkpoint of step \d+ of 510", log.read_text())
    assert runs(project / "mlflow.db") == [(run_id, "FINISHED")]
    with closing(sqlite3.connect(project / "mlflow.db")) as store:
        steps = store.execute(
            "select step, count(*) from metrics where key = 'validation/nats_per_char' group by step"
        ).fetchall()
    assert steps == [(85 * epoch, 1) for epoch in range(1, 7)]


def test_a_launcher_that_cannot_start_or_fails(project: Path) -> None:
    for command, code in (
        (["no-such-program"], 2),
        ([], 2),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill $$"], 143),
    ):
        assert subprocess.run([*LAUNCH, *command], cwd=project, capture_output=True).returncode == code
    (project / "params.yaml").write_text("nothing: here\n")
    done = subprocess.run(LAUNCHED, cwd=project, capture_output=True, text=True)
    assert done.returncode == 2  # accelerate's own is 1
    assert "ERROR: params.yaml: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_sigterm_during_dvc_repro(encoded: Path, tmp_path: Path) -> None:
    project, reference, log = tmp_path / "project", tmp_path / "reference", tmp_path / "log"
    shutil.copytree(encoded, project)
    write_params(project, LONGER)
    start_dvc(project)
    dvc(project, "commit", "--force", "download", "split", "encode")
    shutil.copytree(project, reference)
    run_stages(reference, "train")
    dvc(reference, "commit", "--force", "train")
    lock = (project / "dvc.lock").read_bytes()
    environment = {"PATH": f"{Path(PYTHON[0]).parent}:{os.environ['PATH']}", "SHELL": "/bin/sh"}
    process = start(project, [*PYTHON, "dvc", "repro"], log, **environment)
    wait_for(log, "epoch 2/", process)
    everyone = family(process)
    assert len(everyone) >= 4  # dvc, our launcher, accelerate, the training
    process.send_signal(signal.SIGTERM)
    asked_at = time.time()
    assert process.wait(timeout=30) != 0
    _, alive = psutil.wait_procs(everyone, timeout=60)
    stopped_seconds = time.time() - asked_at

    assert alive == []
    assert "ERROR: interrupted: stopped as asked, after step" in log.read_text()
    (newest, *_) = sorted(project.glob(".charlstm/*/step-*"), reverse=True)
    assert newest.stat().st_mtime - asked_at < MAX_CHECKPOINT_AGE_SECONDS
    assert [status for _, status in runs(project / "mlflow.db")] == ["KILLED"]
    assert (project / "dvc.lock").read_bytes() == lock

    dvc(project, "repro", "train")
    assert results(project) == results(reference)
    locks = [YAML(typ="safe").load((folder / "dvc.lock").read_text()) for folder in (project, reference)]
    assert locks[0]["stages"]["train"]["outs"] == locks[1]["stages"]["train"]["outs"]
    assert [status for _, status in runs(project / "mlflow.db")] == ["FINISHED"]
    sys.stdout.write(f"all ended {stopped_seconds:.1f} s after SIGTERM to dvc\n")


@pytest.mark.slow
def test_torchrun_restarts_from_the_checkpoint(project: Path, trained_by_two: Path, tmp_path: Path) -> None:
    """A worker is killed three times at some step; the same bytes come out."""
    write_params(project, SHORT)
    log = tmp_path / "log"
    process = start(project, TORCHRUN, log, CHARLSTM_CHECKPOINT_SECONDS="0.3")
    seconds = []
    for number in range(3):
        wait_for(log, f"epoch {1 + number}/", process)
        while not checkpoints(project):  # on a busy machine epochs end sooner
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        said = log.read_text().count("resuming from the checkpoint")
        workers = training_processes(process)
        workers[number % len(workers)].send_signal(signal.SIGKILL)
        killed_at = time.monotonic()
        while log.read_text().count("resuming from the checkpoint") == said:
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        seconds.append(time.monotonic() - killed_at)
    assert process.wait(timeout=120) == 0, log.read_text()
    assert results(project) == results(trained_by_two)
    assert max(seconds) < 60
    sys.stdout.write(f"seconds from kill to the next step: {[round(one, 1) for one in seconds]}\n")
