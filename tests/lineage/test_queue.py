"""A DVC queue with two workers: every training has its own run in MLflow."""

import shutil
import time
from contextlib import chdir
from pathlib import Path

import pytest

from pipeline.sweep.results import results_of
from tests.support.stages import commit_all, commit_of, dvc, start_dvc
from tests.support.stores import query

NUM_TRAININGS = 3


@pytest.mark.slow
def test_two_workers_lose_no_training(encoded: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(encoded, project, ignore=shutil.ignore_patterns("Datasets"))
    start_dvc(project)
    dvc(project, "repro", "encode")
    commit_all(project, "encoded")
    dvc(
        project, "exp", "run", "--queue", f"-Strain.seed={','.join(map(str, range(NUM_TRAININGS)))}"
    )
    dvc(project, "queue", "start", "-j", "2", OMP_NUM_THREADS="1")
    deadline = time.monotonic() + 540
    while (status := dvc(project, "queue", "status")).count("Success") < NUM_TRAININGS:
        assert "Failed" not in status and time.monotonic() < deadline, status
        time.sleep(2)
    with chdir(project):
        by_dvc = {one.name: one.loss for one in results_of(commit_of(project))}
    statuses = query(
        project, "select status from runs join tags using (run_uuid) where key = 'dvc_exp_baseline'"
    )
    by_mlflow = query(
        project,
        "select tags.value, metrics.value from metrics join tags using (run_uuid) "
        "where metrics.key = 'stateful/nats_per_char' and tags.key = 'dvc_exp_name'",
    )
    assert statuses == NUM_TRAININGS * [("FINISHED",)]
    assert dict(by_mlflow) == by_dvc and len(by_mlflow) == NUM_TRAININGS
