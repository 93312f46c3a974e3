"""MLflow stores of tests, and what is sent to them."""

from typing import Any

import pandas as pd

from charlstm.history import EpochRow, StepRow, Tables, table
from charlstm.tracking.client import Store, connect
from charlstm.tracking.registered_model import MODEL_TAG
from charlstm.tracking.runs import RunState, curves_of_tables, find_or_create_experiment, make_run_true

STEPS = [StepRow(step, 1, 2.0 / step, 0.1, 0.5) for step in range(1, 11)]
EPOCHS = [EpochRow(1, 10, 2.0, 1.9)]
TABLES = Tables(table(EPOCHS, EpochRow._fields), table(STEPS, StepRow._fields))
COMMIT_MS = 1_700_000_000_000


def open_store(store: Store, corpus: str = "") -> tuple[Any, str]:
    """MLflow's client, and the id of the experiment for that corpus."""
    client = connect(store)
    return client, find_or_create_experiment(client, store, corpus)


def send(store: Store, state: RunState) -> Any:  # noqa: ANN401  # MLflow's entities have no annotations
    """The run as it is then."""
    client = connect(store)
    return client.get_run(make_run_true(client, store, state))


def of_model(model: str, tags: dict[str, str] | None = None, tables: Tables = TABLES) -> RunState:
    """What evaluate and sample know of a model's run."""
    new_tags, curves = {**(tags or {}), "made_from": "files"}, curves_of_tables(tables)
    return RunState(MODEL_TAG, model, COMMIT_MS, {"train.seed": 7}, new_tags=new_tags, curves=curves)


def history(store: Store, run: Any, metric: str) -> pd.DataFrame:  # noqa: ANN401
    """Its points: step, value and time in milliseconds."""
    points = connect(store).get_metric_history(run.info.run_id, metric)
    rows = sorted((one.step, one.value, one.timestamp) for one in points)
    return pd.DataFrame(rows, columns=["step", "value", "time_ms"])
