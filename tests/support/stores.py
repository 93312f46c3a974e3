"""MLflow stores of tests, and the snapshots sent to them."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd

from charlstm.history import EpochRow, StepRow
from charlstm.tracking.client import Store, connect
from charlstm.tracking.publish import (
    Row,
    Snapshot,
    epoch_metrics,
    find_or_create_experiment,
    publish,
    step_metrics,
)
from charlstm.tracking.registered_model import MODEL_TAG

STEPS = [StepRow(step, 1, 2.0 / step, 0.1, 0.5) for step in range(1, 11)]
EPOCHS = [EpochRow(1, 10, 2.0, 1.9)]
COMMIT_MS = 1_700_000_000_000


def open_store(store: Store, corpus: str = "") -> tuple[Any, str]:
    """Return MLflow's client, and the id of the experiment for the corpus."""
    client = connect(store)
    return client, find_or_create_experiment(client, store, corpus)


def send(store: Store, snapshot: Snapshot) -> Any:
    """Publish the snapshot. Return its run."""
    client = connect(store)
    return client.get_run(publish(client, store, snapshot))


def curves(times: list[int], num_steps: int = 10) -> list[Row]:
    """Return the rows of a training after `num_steps`. `times` has the time of each step."""
    rows = [
        Row(row.step, time_ms, step_metrics(row)) for row, time_ms in zip(STEPS, times, strict=True)
    ]
    epochs = [Row(row.step, times[-1], epoch_metrics(row)) for row in EPOCHS]
    return [row for row in rows + epochs if row.step <= num_steps]


def of_model(model: str, tags: dict[str, str] | None = None) -> Snapshot:
    """Return a snapshot of a model's output files."""
    return Snapshot(
        MODEL_TAG,
        model,
        COMMIT_MS,
        curves([COMMIT_MS] * 10),
        {"train.seed": 7},
        new_tags={**(tags or {}), "made_from": "files"},
    )


def query(folder: Path, sql: str) -> list[Any]:
    """Return the rows of an SQL query on the MLflow database in `folder`."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        return store.execute(sql).fetchall()


def history(store: Store, run: Any, metric: str) -> pd.DataFrame:
    """Return a metric's points: step, value and time in milliseconds."""
    points = connect(store).get_metric_history(run.info.run_id, metric)
    rows = sorted((one.step, one.value, one.timestamp) for one in points)
    return pd.DataFrame(rows, columns=["step", "value", "time_ms"])
