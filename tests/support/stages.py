"""Running stages of a temporary project, as a user would."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from accelerate.state import AcceleratorState

from pipeline.run.stage import run
from tests.support.projects import (
    PYTHON,
    ROOT,
    Override,
    shipped_params,
)

PUBLISHED_DATA = "178cd03125c518a338d3fc794f5e380f.dir"  # DVC's hash of tiny Shakespeare, encoded

SHORT: Override = {
    "train.epochs": 6,
    "train.early_stopping_epochs": None,
    "train.log_every_steps": 7,
}


def blank_project(folder: Path) -> Path:
    """A project in which nothing has run."""
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "params.yaml").write_text(shipped_params())
    return folder


def run_stage(
    project: Path, stage: str, launcher: Sequence[str] = PYTHON, **env: str
) -> subprocess.CompletedProcess[str]:
    """In processes of its own; `launcher` is all of the command before the module's name."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env}
    environment.pop("OMP_NUM_THREADS", None)
    return subprocess.run(
        [*launcher, f"pipeline.{stage}"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_stages(project: Path, *stages: str) -> None:
    """In this process, which has imported everything already: quick."""
    for stage in stages:
        assert run_here(project, stage) == 0


def run_here(project: Path, stage: str) -> int:
    """One of them; its exit code."""
    AcceleratorState._reset_state(reset_partial_state=True)
    with contextlib.chdir(project):
        return run(import_module(f"pipeline.{stage}").run, [])


def run_dvc(project: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `dvc`, or `git` if that is the first word; `env` is added to the environment."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GIT_AUTHOR_NAME": "t",
    }
    environment |= {
        "GIT_COMMITTER_NAME": "t",
        "GIT_AUTHOR_EMAIL": "t@t",
        "GIT_COMMITTER_EMAIL": "t@t",
    }
    environment.pop("OMP_NUM_THREADS", None)
    environment |= env
    program = ["git"] if arguments[0] == "git" else ["dvc"]
    arguments = arguments[1:] if arguments[0] == "git" else arguments
    return subprocess.run(
        [*program, *arguments], cwd=project, env=environment, capture_output=True, text=True
    )


def start_dvc(project: Path) -> None:
    """Put it under git and DVC, with what the repository tells both of them to ignore."""
    for name in (".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, project)
    dvc(project, "git", "init", "-q", "-b", "main")
    dvc(project, "init", "-q")


def dvc_done(project: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The same, where it has to succeed."""
    done = run_dvc(project, *arguments, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def dvc(project: Path, *arguments: str, **env: str) -> str:
    """What it prints."""
    return dvc_done(project, *arguments, **env).stdout


def checkpoints(project: Path) -> list[Path]:
    """Those that are whole, of all trainings in the project."""
    return list(project.glob(".charlstm/*/step-*/SHA256SUMS"))


def committed_text(path: str) -> str:
    """What git has of a file of the project: the working tree may be at another text or recipe."""
    return subprocess.run(
        ["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def wait_for(log: Path, words: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while words not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
