"""A sweep by `dvc exp run --queue` with four workers: every point arrives, in one run a training, below one parent."""

import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from stages import dvc, start_dvc

from benchmarks.projects import write_params

NUM_TRAININGS, NUM_WORKERS = 6, 4
LOSS = "stateful/nats_per_char"


def prepare(encoded: Path, project: Path) -> None:
    shutil.copytree(encoded, project, ignore=shutil.ignore_patterns("Datasets"))
    write_params(project, {"train.epochs": 3})
    start_dvc(project)


@pytest.mark.slow
def test_four_workers_lose_no_point(encoded: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    prepare(encoded, project)
    dvc(project, "repro", "encode")
    dvc(project, "git", "add", "-A")
    dvc(project, "git", "commit", "-qm", "encoded")
    seeds = ",".join(map(str, range(NUM_TRAININGS)))
    dvc(project, "exp", "run", "--queue", "-S", f"train.seed={seeds}")
    dvc(project, "queue", "start", "-j", str(NUM_WORKERS), OMP_NUM_THREADS="1")
    deadline = time.monotonic() + 540
    while (status := dvc(project, "queue", "status")).count("Success") < NUM_TRAININGS:
        assert "Failed" not in status and time.monotonic() < deadline, status
        time.sleep(2)

    baseline = dvc(project, "git", "rev-parse", "HEAD").strip()
    with closing(sqlite3.connect(project / "mlflow.db")) as store:
        ((parent,),) = store.execute("select run_uuid from tags where key = 'sweep_of' and value = ?", (baseline,))
        children = store.execute(
            "select runs.run_uuid, status from runs join tags using (run_uuid) where key = 'mlflow.parentRunId' "
            "and tags.value = ?", (parent,),
        ).fetchall()  # fmt: skip
        assert [status for _, status in children] == NUM_TRAININGS * ["FINISHED"]
        points = store.execute(
            "select key, count(*), count(distinct step) from metrics where key not like 'system/%' "
            "group by run_uuid, key"
        ).fetchall()
        losses = dict(
            store.execute(
                "select tags.value, metrics.value from metrics join tags using (run_uuid) "
                "where metrics.key = ? and tags.key = 'dvc_exp_name'", (LOSS,),
            )
        )  # fmt: skip
    steps = len((encoded / "text.txt").read_text()) * 9 // 10 // 64 * 3
    assert len(points) == NUM_TRAININGS * len({key for key, *_ in points})
    for key, number, distinct in points:
        assert number == distinct, key
        if key == "train/nats_per_char":
            assert number >= steps
        if key == "validation/nats_per_char":
            assert number == 3
    assert losses == losses_by_dvc(project) and len(losses) == NUM_TRAININGS
    assert list(project.glob(".charlstm/*/run.json")) == []


def losses_by_dvc(project: Path) -> dict[str, float]:
    """Of each experiment, as `dvc exp show` has it."""
    shown = json.loads(dvc(project, "exp", "show", "--json"))
    losses = {}
    for commit in shown:
        for experiment in commit["experiments"] or []:
            for rev in experiment["revs"]:
                metrics = rev["data"]["metrics"]["artifacts/evaluate/metrics.json"]["data"]
                losses[rev["name"]] = metrics["stateful"]["nats_per_char"]
    return losses
