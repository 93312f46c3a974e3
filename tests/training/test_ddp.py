"""Two processes (torchrun, gloo) train as one does."""

import math
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from tests.support.projects import torchrun, write_params
from tests.support.stages import run_stage, run_stages


def step_losses(project: Path) -> list[float]:
    return pd.read_csv(project / "artifacts/train/steps.csv")["train_nats_per_char"].tolist()


def test_two_processes_have_the_losses_of_one(encoded: Path, tmp_path: Path) -> None:
    override = {
        "split.document_separator": "\n",
        "train.precision": "fp64",
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

    assert len(step_losses(one)) >= 50
    assert step_losses(two) == pytest.approx(step_losses(one), rel=1e-9)
    vals = [
        pd.read_csv(project / "artifacts/train/history.csv")["val_nats_per_char"].iloc[-1]
        for project in (one, two)
    ]
    assert math.isclose(*vals, abs_tol=0.003)
    written = [
        sorted(str(file.relative_to(p)) for file in (p / "artifacts").rglob("*"))
        for p in (one, two)
    ]
    assert written[0] == written[1]
    with closing(sqlite3.connect(two / "mlflow.db")) as store:
        assert store.execute("select count(*), min(status) from runs").fetchall() == [
            (1, "FINISHED")
        ]
        tags = dict(store.execute("select key, value from tags").fetchall())
    assert tags["hardware.processes"] == "2"
