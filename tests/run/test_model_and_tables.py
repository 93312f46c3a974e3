"""A model and the tables of its training belong together: one is refused beside the other's."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stages import run_here, run_stages

from benchmarks.projects import write_params

KILLED_BEFORE_THE_TABLES = """
import os, signal
from pipeline import train
from pipeline.run import stage
train.write_tables = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
stage.run(train.run, [])
"""


@pytest.fixture(scope="module")
def half_written(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project in which another training was killed between its model and its tables."""
    folder = tmp_path_factory.mktemp("half") / "project"
    shutil.copytree(trained, folder)
    write_params(folder, {"train.learning_rate": 0.003})
    before = (folder / "artifacts/model/model.safetensors").read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_THE_TABLES],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (folder / "artifacts/model/model.safetensors").read_bytes() != before
    return folder


@pytest.mark.parametrize("stage", ["evaluate", "sample"])
def test_a_new_model_beside_old_tables_is_refused(
    half_written: Path, stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert run_here(half_written, stage) == 2
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "model.safetensors: damaged, or of another run: SHA256SUMS expects SHA-256 " in line


def test_the_same_command_then_writes_both(half_written: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(half_written, project)
    run_stages(project, "train", "evaluate")
