"""How busy the machine is, as the run has it, by MLflow's own monitor."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from stages import run_stage

from benchmarks.projects import write_params


@pytest.mark.slow
def test_a_run_says_how_busy_its_machine_is(encoded: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(encoded, project)
    write_params(project, {"train.epochs": 60, "train.early_stopping_epochs": None, "model.hidden_size": 64})
    done = run_stage(project, "train", MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL="1", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(project / "mlflow.db")) as store:
        assert store.execute("select status from runs").fetchall() == [("FINISHED",)]
        found = {row[0] for row in store.execute("select distinct key from metrics where key like 'system/%'")}
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= found
    assert list(project.glob(".charlstm/*/run.json")) == []
