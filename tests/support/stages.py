"""Stages of a temporary project, run as a user would."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from accelerate.state import AcceleratorState

from pipeline.run.stage import main
from tests.support.projects import PATH, PYTHON, ROOT, Override, shipped_params

PUBLISHED_DATA = "178cd03125c518a338d3fc794f5e380f.dir"  # DVC's hash of tiny Shakespeare, encoded
SHORT: Override = {
    "train.epochs": 6,
    "train.early_stopping_epochs": None,
    "train.log_every_steps": 7,
}
IDENTITY = {
    f"GIT_{who}_{what}": "t@t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


def blank_project(folder: Path) -> Path:
    """Create a project without code in which no stage has run."""
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "params.yaml").write_text(shipped_params())
    return folder


def run_stage(
    project: Path, stage: str, launcher: Sequence[str] = PYTHON, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a stage in new processes. `launcher` is the command before the module's name."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env}
    environment.pop("OMP_NUM_THREADS", None)
    return subprocess.run(
        [*launcher, "pipeline", stage],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_stages(project: Path, *stages: str) -> None:
    """Run stages in this process, which has imported everything already."""
    for stage in stages:
        assert run_here(project, stage) == 0


def run_here(project: Path, stage: str) -> int:
    """Run a stage in this process. Return its exit code."""
    AcceleratorState._reset_state(reset_partial_state=True)
    with contextlib.chdir(project):
        return main([stage])


def run_dvc(project: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `dvc`, or `git` if that is the first word. `env` is added to the environment."""
    environment = {**os.environ, "PATH": PATH, **IDENTITY}
    environment.pop("OMP_NUM_THREADS", None)
    command = arguments if arguments[0] == "git" else ("dvc", *arguments)
    return subprocess.run(
        command, cwd=project, env={**environment, **env}, capture_output=True, text=True
    )


def start_dvc(project: Path) -> None:
    """Put the project under git and DVC, with the repository's lists of ignored files."""
    for name in (".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, project)
    dvc(project, "git", "init", "-q", "-b", "main")
    dvc(project, "init", "-q")


def dvc_done(project: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `dvc` or `git`. Raise AssertionError if it fails."""
    done = run_dvc(project, *arguments, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def dvc(project: Path, *arguments: str, **env: str) -> str:
    """Run `dvc` or `git` and return what it prints. Raise AssertionError if it fails."""
    return dvc_done(project, *arguments, **env).stdout


def commit_all(project: Path, message: str) -> None:
    """Commit every change in the project, and its new files."""
    dvc(project, "git", "add", "-A")
    dvc(project, "git", "commit", "-qm", message)


def commit_of(project: Path, revision: str = "HEAD") -> str:
    """Return the hash of a revision's commit."""
    return dvc(project, "git", "rev-parse", revision).strip()


def checkpoints(project: Path) -> list[Path]:
    """Return the checksum files of all complete checkpoints in the project."""
    return list(project.glob(".charlstm/*/step-*/SHA256SUMS"))


def wait_for(log: Path, words: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while words not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
