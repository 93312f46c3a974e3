"""Two processes (torchrun, gloo) compute what one process computes."""

import math
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.support.projects import torchrun, write_params
from tests.support.stages import run_stage, run_stages
from tests.support.stores import query


def column(project: Path, table: str, name: str) -> list[float]:
    return pd.read_csv(project / f"artifacts/train/{table}.csv")[name].tolist()


def test_two_processes_have_the_losses_of_one(encoded: Path, tmp_path: Path) -> None:
    override = {
        "train.precision": "fp64",
        "train.batch_size": 5,  # two processes share it unevenly
        "train.state_reset_probability": 0.1,
        "model.num_layers": 2,
        "model.feed_forward_size": 24,
        "train.dropout.between_layers": 0.2,
        "train.dropout.output_samples": 2,
    }
    one = tmp_path / "one"
    two = tmp_path / "two"
    for project in (one, two):
        shutil.copytree(encoded, project)
        write_params(project, override)
    run_stages(one, "train")
    done = run_stage(two, "train", [*torchrun(2), "-m"])
    assert done.returncode == 0, done.stderr

    losses, expected = (column(project, "steps", "train_nats_per_char") for project in (two, one))
    assert len(expected) >= 50
    assert losses == pytest.approx(expected, rel=1e-9)
    (last, *_), (expected_last, *_) = (
        column(project, "history", "val_nats_per_char")[::-1] for project in (two, one)
    )
    assert math.isclose(last, expected_last, abs_tol=0.003)
    assert query(two, "select count(*), min(status) from runs") == [(1, "FINISHED")]
    assert dict(query(two, "select key, value from tags"))["hardware.processes"] == "2"
