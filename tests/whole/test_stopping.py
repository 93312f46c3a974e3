"""Requests to stop, to any process: a checkpoint, KILLED in MLflow, the same bytes afterwards."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.projects import (
    CHARLSTM,
    LAUNCH,
    PATH,
    PYTHON,
    ROOT,
    family,
    results,
    run,
    start,
    training_command,
    write_params,
)
from tests.support.stages import (
    SHORT,
    blank_project,
    checkpoints,
    dvc,
    run_stages,
    start_dvc,
    wait_for,
)
from tests.support.stores import query

DVC = [*PYTHON, "dvc", "repro", "train"]
TORCHRUN = [*LAUNCH, *training_command(2, "--max-restarts", "3")]
TRAIN = ["-m", "pipeline", "train"]
LONGER = SHORT | {"train.epochs": 8}  # some seconds more, in which a request arrives
MAX_CHECKPOINT_AGE_SECONDS = 10
SHELL = {"PATH": PATH, "SHELL": "/bin/sh"}


def workers(launched: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the training processes. A child of one, which writes texts, is none."""
    found: list[psutil.Process] = []
    for one in family(launched):
        with suppress(psutil.Error):  # a short-lived process has ended
            is_training = one.cmdline()[1:] in (TRAIN, ["-u", *TRAIN])
            if is_training and one.ppid() not in [other.pid for other in found]:
                found.append(one)
    return found


def send(process: subprocess.Popen[bytes], whom: str, number: signal.Signals) -> None:
    """Send a signal to the process group of a started command, or to one of its processes."""
    if whom == "group":
        os.killpg(process.pid, number)
    else:
        worker = workers(process)[-1]
        pids = {"first": process.pid, "launcher": worker.ppid(), "worker": worker.pid}
        os.kill(pids[whom], number)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "whom", "number"),
    [
        (DVC, "group", signal.SIGINT),
        (DVC, "group", signal.SIGHUP),
        (DVC, "first", signal.SIGTERM),
        (DVC, "worker", signal.SIGTERM),
        pytest.param(TORCHRUN, "launcher", signal.SIGUSR1, id="launcher-SIGUSR1"),
    ],
)
def test_a_request_to_anyone_stops_all(
    project: Path, tmp_path: Path, command: list[str], whom: str, number: signal.Signals
) -> None:
    """A checkpoint is saved, no process is left, and DVC records nothing."""
    write_params(project, LONGER)
    start_dvc(project)
    dvc(project, "commit", "--force", "check", "download", "split", "encode")
    log = tmp_path / "log"
    lock = (project / "dvc.lock").read_bytes()
    process = start(project, ["setsid", *command], log, **SHELL)
    wait_for(log, "epoch 2/", process)
    everyone = family(process)
    asked_at = time.time()
    send(process, whom, number)
    assert process.wait(timeout=60) != 0
    assert not psutil.wait_procs(everyone, timeout=60)[1], log.read_text()

    interrupted = "ERROR: interrupted: the same command resumes from the last checkpoint"
    assert f"{interrupted} (stopped on request after step" in log.read_text()
    newest = max(project.glob(".charlstm/*/step-*"))
    assert newest.stat().st_mtime - asked_at < MAX_CHECKPOINT_AGE_SECONDS
    assert query(project, "select status from runs") == [("KILLED",)]
    assert not (project / "artifacts/model").exists()
    assert (project / "dvc.lock").read_bytes() == lock


def test_a_stopped_training_ends_in_the_same_bytes_here_and_elsewhere(
    project: Path, tmp_path: Path
) -> None:
    """Another machine shares only the disk with the state of unfinished runs."""
    write_params(project, LONGER)
    elsewhere, reference = (
        shutil.copytree(project, tmp_path / name) for name in ("elsewhere", "reference")
    )
    run_stages(reference, "train")
    disk = tmp_path / "disk"
    disk.mkdir()
    for machine in (project, elsewhere):
        (machine / ".charlstm").symlink_to(disk)
    log = tmp_path / "log"
    process = start(project, training_command(1), log)
    wait_for(log, "epoch 2/", process)
    process.terminate()
    assert process.wait(timeout=60) == 75
    for machine in (elsewhere, project):
        run_stages(machine, "train")
        assert results(machine) == results(reference)
        assert query(machine, "select status from runs") == [("FINISHED",)]


@pytest.mark.slow
def test_charlstm_new_stops_what_it_runs(tmp_path: Path) -> None:
    project = blank_project(tmp_path / "project")
    log = tmp_path / "log"
    for code in ("charlstm", "pipeline"):
        shutil.copytree(ROOT / code, project / code)
    (project / "text.txt").write_text("To be, or not to be, that is the question.\n" * 3000)
    start_dvc(project)
    process = start(project, [*CHARLSTM, "new", "text.txt", "--run"], log, **SHELL)
    wait_for(log, " parameters, ", process)
    everyone = family(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75, log.read_text()
    assert not [one for one in everyone if one.is_running()]


@pytest.mark.slow
def test_torchrun_restarts_from_the_checkpoint(project: Path, tmp_path: Path) -> None:
    """A process is killed, and the training ends in the same bytes."""
    write_params(project, SHORT)
    log = tmp_path / "log"
    undisturbed = shutil.copytree(project, tmp_path / "undisturbed")
    assert run(undisturbed, training_command(2), log) == 0
    log.unlink()
    process = start(project, TORCHRUN, log, CHARLSTM_CHECKPOINT_SECONDS="0.3")
    wait_for(log, "epoch 1/", process)
    while not checkpoints(project):  # on a busy machine, epochs end sooner
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    workers(process)[-1].kill()
    assert process.wait(timeout=120) == 0, log.read_text()
    assert "resuming from the checkpoint" in log.read_text()
    assert results(project) == results(undisturbed)
