"""Requests to stop, to any process: a checkpoint, KILLED in MLflow, the same bytes afterwards."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pipeline.run.settings import CHECKPOINT_MIRROR
from tests.conftest import Prepare
from tests.support import projects
from tests.support.projects import (
    CHARLSTM,
    LAUNCH,
    PYTHON,
    ROOT,
    family,
    results,
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
LONGER = SHORT | {"train.epochs": 8}  # some seconds more, in which a request arrives
MAX_CHECKPOINT_AGE_SECONDS = 10


PATH = {"PATH": projects.PATH, "SHELL": "/bin/sh"}


def training_processes(*launched: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the training processes of the launchers, by rank."""
    found = {}
    for one in [one for process in launched for one in family(process)]:
        with suppress(psutil.Error):  # a short-lived process has ended
            if one.cmdline()[1:] in (["-u", *TRAIN], TRAIN):
                found[one] = int(one.environ().get("RANK", "0"))
    # A child of a training process writes the texts of an epoch.
    trainings = [one for one in found if one.ppid() not in [other.pid for other in found]]
    return sorted(trainings, key=lambda one: found[one])


@pytest.fixture
def project(prepare: Prepare, encoded: Path, tmp_path: Path) -> Path:
    """Return a project under git and DVC whose next stage is train."""

    def build(folder: Path) -> None:
        shutil.copytree(encoded, folder)
        write_params(folder, LONGER)
        start_dvc(folder)
        dvc(folder, "commit", "--force", "check", "download", "split", "encode")

    return shutil.copytree(prepare("to-be-stopped", build), tmp_path / "project")


@pytest.fixture
def reference(prepare: Prepare, encoded: Path) -> Path:
    """Return a project with the same training, undisturbed."""

    def build(folder: Path) -> None:
        shutil.copytree(encoded, folder)
        write_params(folder, LONGER)
        run_stages(folder, "train")

    return prepare("not-stopped", build)


def statuses(project: Path) -> list[str]:
    return [status for (status,) in query(project, "select status from runs")]


def send(process: subprocess.Popen[bytes], whom: str, number: signal.Signals) -> None:
    """Send a signal to the process group of a started command, or to one of its processes."""
    if whom == "group":
        os.killpg(process.pid, number)
    else:
        worker = training_processes(process)[-1]
        pids = {"first": process.pid, "launcher": worker.ppid(), "worker": worker.pid}
        os.kill(pids[whom], number)


def left_after(process: subprocess.Popen[bytes], ask: Callable[[], None]) -> list[psutil.Process]:
    """Ask a command to stop, or kill it. Return its descendants that are alive after its end."""
    everyone = family(process)
    ask()
    assert process.wait(timeout=60) != 0
    return psutil.wait_procs(everyone, timeout=60)[1]


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
VICTIMS = ((DVC, "group"), (DVC, "launcher"), (DVC, "worker"), (TORCHRUN, "launcher"))
TRAIN = ["-m", "pipeline", "train"]
SLOW = [(DVC, "first", signal.SIGHUP)]
SLOW += [(command, whom, number) for command, whom in VICTIMS for number in SIGNALS]


@pytest.mark.parametrize(
    ("command", "whom", "number"),
    [
        # DVC itself ignores SIGINT.
        (DVC, "first", signal.SIGTERM),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW),
    ],
)
def test_a_request_to_anyone_stops_all(
    project: Path,
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    command: list[str],
    whom: str,
    number: signal.Signals,
) -> None:
    """A checkpoint is saved, no process is left, and the next start ends with the same bytes.

    So does a start on another machine, which has only the mirror of checkpoints.
    """
    mirror = (tmp_path / "mirror").as_uri()
    elsewhere = shutil.copytree(project, tmp_path / "elsewhere")
    log = tmp_path / "log"
    lock = (project / "dvc.lock").read_bytes()
    process = start(project, ["setsid", *command], log, **PATH, **{CHECKPOINT_MIRROR: mirror})
    wait_for(log, "epoch 2/", process)
    asked_at = time.time()
    assert not left_after(process, lambda: send(process, whom, number)), log.read_text()

    interrupted = "ERROR: interrupted: the same command resumes from the last checkpoint"
    assert f"{interrupted} (stopped on request after step" in log.read_text()
    (newest, *_) = sorted(project.glob(".charlstm/*/step-*"), reverse=True)
    assert newest.stat().st_mtime - asked_at < MAX_CHECKPOINT_AGE_SECONDS
    assert statuses(project) == ["KILLED"]
    assert not (project / "artifacts/model").exists()
    assert (project / "dvc.lock").read_bytes() == lock
    if command == DVC:
        run_stages(project, "train")
        assert results(project) == results(reference)
        assert statuses(project) == ["FINISHED"]
        monkeypatch.setenv(CHECKPOINT_MIRROR, mirror)
        run_stages(elsewhere, "train")
        assert "the mirror has a newer checkpoint than this machine" in caplog.text
        assert results(elsewhere) == results(reference)
        first, other = (
            next(one.glob(".charlstm/*/training-id")).read_text() for one in (project, elsewhere)
        )
        assert first == other


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
def test_dvc_may_die_while_the_launcher_starts(
    project: Path, tmp_path: Path, number: signal.Signals, delay: float
) -> None:
    log = tmp_path / "log"
    process = start(project, DVC, log, **PATH)

    def launcher() -> list[psutil.Process]:
        found = []
        for one in family(process):
            with suppress(psutil.Error):
                found += [one] if "pipeline.launch" in one.cmdline() else []
        return found

    while not launcher():
        assert process.poll() is None, log.read_text()
        time.sleep(0.001)
    time.sleep(delay)
    assert not left_after(process, lambda: process.send_signal(number))
    assert not checkpoints(project)


@pytest.mark.slow
def test_charlstm_new_stops_what_it_runs(tmp_path: Path) -> None:
    project = blank_project(tmp_path / "project")
    log = tmp_path / "log"
    for code in ("charlstm", "pipeline"):
        shutil.copytree(ROOT / code, project / code)
    (project / "text.txt").write_text("To be, or not to be, that is the question.\n" * 3000)
    start_dvc(project)
    process = start(project, [*CHARLSTM, "new", "text.txt", "--run"], log, **PATH)
    wait_for(log, " parameters, ", process)
    everyone = family(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75, log.read_text()
    assert not [one for one in everyone if one.is_running()]


@pytest.mark.slow
def test_torchrun_restarts_from_the_checkpoint(
    project: Path, trained_by_two: Path, tmp_path: Path
) -> None:
    """A worker is killed three times at some step, and the training ends in the same bytes."""
    write_params(project, SHORT)
    log = tmp_path / "log"
    process = start(project, TORCHRUN, log, CHARLSTM_CHECKPOINT_SECONDS="0.3")
    seconds = []
    for number in range(3):
        wait_for(log, f"epoch {1 + number}/", process)
        while not checkpoints(project):  # on a busy machine, epochs end sooner
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


@pytest.mark.slow
def test_dvc_may_die_before_the_training_listens(project: Path, tmp_path: Path) -> None:
    process = start(project, DVC, tmp_path / "log", **PATH)
    while not training_processes(process):
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.02)
    assert not left_after(process, process.terminate)
