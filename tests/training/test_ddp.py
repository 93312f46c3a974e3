"""Two processes (torchrun, gloo) train as one does."""

import math
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from stages import run_stage, run_stages

from benchmarks.projects import torchrun, write_params
from pipeline.stage.settings import MIRROR


def step_losses(project: Path) -> list[float]:
    return pd.read_csv(project / "artifacts/train/steps.csv")["train_nats_per_char"].tolist()


@pytest.mark.parametrize(
    ("precision", "separator", "num_steps", "tolerance"),
    [
        ("fp64", "\n", 50, 1e-9),
        pytest.param("fp64", None, 50, 1e-9, marks=pytest.mark.slow),
        pytest.param("fp32", None, 20, 1e-5, marks=pytest.mark.slow),  # `benchmarks.worlds` has it, too
    ],
)
def test_two_processes_have_the_losses_of_one(
    encoded: Path, tmp_path: Path, precision: str, separator: str | None, num_steps: int, tolerance: float
) -> None:
    override = {
        "split.document_separator": separator,
        "train.precision": precision,
        "train.batch_size": 5,  # does not divide by 2
        "train.state_reset_probability": 0.1,
        "model.num_layers": 2,
        "model.feed_forward_size": 24,
        "train.dropout.between_layers": 0.2,
        "train.dropout.output_samples": 2,
    }
    one, two = tmp_path / "one", tmp_path / "two"
    for project in (one, two):
        shutil.copytree(encoded, project)
        write_params(project, override)
    run_stages(one, "train")
    done = run_stage(two, "train", [*torchrun(2), "-m"])
    assert done.returncode == 0, done.stderr

    assert len(step_losses(one)) == len(step_losses(two)) >= num_steps
    relative = [abs(a - b) / b for a, b in zip(step_losses(two), step_losses(one), strict=True)]
    assert max(relative[:num_steps]) < tolerance
    vals = [
        pd.read_csv(project / "artifacts/train/history.csv")["val_nats_per_char"].iloc[-1] for project in (one, two)
    ]
    assert math.isclose(*vals, abs_tol=0.003)
    written = [sorted(str(file.relative_to(p)) for file in (p / "artifacts").rglob("*")) for p in (one, two)]
    assert written[0] == written[1]
    with closing(sqlite3.connect(two / "mlflow.db")) as store:
        assert store.execute("select count(*), min(status) from runs").fetchall() == [(1, "FINISHED")]
        tags = dict(store.execute("select key, value from tags").fetchall())
    assert tags["num_processes"] == "2"


IN_PIECES = """
import sys
from charlstm.model import loss
from charlstm.training import learner
learner.MAX_LOGITS, loss.LOGITS_AT_ONCE = 100, 300
from pipeline import train
from pipeline.stage import stage
sys.exit(stage.run(train.run, []))
"""


@pytest.mark.slow
def test_two_processes_with_a_head_in_pieces_have_the_losses_of_one(encoded: Path, tmp_path: Path) -> None:
    """The weights of the head are used several times, within the call that DDP watches."""
    one, two = tmp_path / "one", tmp_path / "two"
    for project in (one, two):
        shutil.copytree(encoded, project)
        write_params(project, {"train.precision": "fp64", "train.batch_size": 5, "train.micro_batch_size": 2})
    run_stages(one, "train")
    (two / "in_pieces.py").write_text(IN_PIECES)
    environment = {**os.environ, "PYTHONPATH": str(two), "OMP_NUM_THREADS": "1"}
    command = [*torchrun(2), "in_pieces.py"]
    done = subprocess.run(command, cwd=two, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert step_losses(two) == pytest.approx(step_losses(one), rel=1e-9) and len(step_losses(one)) > 50
    assert step_losses(two) != step_losses(one)


PATIENT = """
import sys, time
from pipeline.dvc import unfinished
from pipeline.mirror import Mirror
exclusive = unfinished.exclusive
unfinished.exclusive = lambda path, what, *rest: (time.sleep(4 * (what == "this training")), exclusive(path, what))[1]
Mirror.__enter__ = lambda self: time.sleep(4)
Mirror.__exit__ = lambda *_: None
from pipeline import train
from pipeline.stage import stage
sys.exit(stage.run(train.run, []))
"""


def test_all_wait_for_what_the_first_process_waits_for(encoded: Path, tmp_path: Path) -> None:
    """Another experiment, and a mirror: for longer than the time after which a process counts as lost."""
    project = tmp_path / "project"
    shutil.copytree(encoded, project)
    (project / "patient.py").write_text(PATIENT)
    environment = {**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1", "CHARLSTM_TIMEOUT_SECONDS": "3"}
    environment[MIRROR] = (tmp_path / "mirror").as_uri()
    command = [*torchrun(2), "patient.py"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_more_processes_than_rows_is_one_clear_line(encoded: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(encoded, project)
    write_params(project, {"train.batch_size": 1})
    done = run_stage(project, "train", [*torchrun(2), "-m"])
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    assert len(lines) == 1
    assert "train.batch_size is 1 rows over all processes, but 2 processes were started" in lines[0]
    assert not (project / "artifacts").exists()
