"""Which processes are launchers, by their command lines, and which signals they leave to a training process."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.projects import LAUNCH, ROOT
from pipeline.stage import interruption
from pipeline.stage.interruption import is_launcher


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("/venv/bin/python /venv/bin/dvc repro", True),
        ("/usr/bin/python3.11 -m dvc repro train", True),
        ("python -m pipeline.launch accelerate launch -m pipeline.train", True),
        ("python /venv/bin/accelerate launch --quiet -m pipeline.train", True),
        ("python -u -m torch.distributed.run -m pipeline.train", True),
        ("torchrun --nproc_per_node 2 -m pipeline.train", True),
        ("/venv/bin/python /venv/bin/charlstm reproduce HEAD", True),
        ("python -m pipeline.cli reproduce HEAD", True),
        ("python -m pipeline.cli trace reproduce", False),
        ("python -m pipeline.train", False),
        ("", False),
    ],
)
def test_a_launcher_is_told_by_its_program(monkeypatch: pytest.MonkeyPatch, command: str, expected: bool) -> None:
    monkeypatch.setattr(interruption, "command_of", lambda process: command.split())
    assert is_launcher(psutil.Process()) == expected


@pytest.mark.parametrize("is_kept_alive", [False, True])
def test_a_training_process_takes_the_signals_that_its_launcher_ignores(is_kept_alive: bool, tmp_path: Path) -> None:
    """But not those that the user has ignored, as by `nohup`."""
    work = "from pipeline.stage.interruption import *; print(*(one.name for one in without_ignored(SIGNALS)))"
    command = [*LAUNCH, sys.executable, "-c", work]
    if is_kept_alive:
        command = ["nohup", *command]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    taken = {"SIGTERM", "SIGINT", "SIGUSR1"} | (set() if is_kept_alive else {"SIGHUP"})
    assert set(done.stdout.split()) == taken, done.stderr
