"""Single calls to MLflow: open a store, find and create runs, write parameters, metrics, tags and tables.

The only module that imports MLflow, and only when a call is made. No parameter and no tag that leaves it shows the
password of a URL.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from charlstm.storage.urls import hide_credentials, without_credentials
from charlstm.tracking.measurements import Measurement

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_PARAM_LENGTH = 6_000  # MLflow's limits
MAX_METRICS_PER_CALL = 1_000
MAX_PARAMS_PER_CALL = 100


class Store(NamedTuple):
    """Where runs go: a tracking URI, an experiment by name or id, and where artifacts go if no server decides that."""

    uri: str
    experiment: str
    artifact_root: str | None
    experiment_id: str | None = None


def open_store(store: Store) -> tuple["MlflowClient", str]:
    """A client, and the id of the experiment, which is made if the store has none."""
    from mlflow import MlflowClient

    for noisy in ("mlflow", "alembic"):  # both announce every table of a fresh database
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for source in (logging.getLogger("urllib3.connectionpool"), *logging.getLogger("mlflow").handlers):
        source.addFilter(hide_credentials)
    client = MlflowClient(store.uri)
    if store.experiment_id is not None:
        return client, store.experiment_id
    experiment = client.get_experiment_by_name(store.experiment)
    if experiment is not None:
        return client, experiment.experiment_id
    kind = {"mlflow.experimentKind": "custom_model_development"}  # the UI shows loss curves, not language-model traces
    return client, client.create_experiment(store.experiment, store.artifact_root, kind)


def create_run(client: "MlflowClient", experiment_id: str, tags: Mapping[str, str]) -> str:
    """A new run's id; it is named after the DVC experiment, if there is one."""
    shown = _shown(tags)
    return str(client.create_run(experiment_id, tags=shown, run_name=shown.get("dvc_exp_name")).info.run_id)


def find_run(client: "MlflowClient", experiment_id: str, tag: str, value: str) -> str | None:
    """The id of the newest run with that tag; None if there is none."""
    runs = client.search_runs([experiment_id], f"tags.{tag} = '{value}'", max_results=1, order_by=["start_time DESC"])
    return str(runs[0].info.run_id) if runs else None


def log_metrics(client: "MlflowClient", run_id: str, values: Sequence[Measurement], timestamp_ms: int) -> None:
    """Record values, all of one time."""
    from mlflow.entities import Metric

    metrics = [Metric(one.name, one.value, timestamp_ms, one.step) for one in values]
    for start in range(0, len(metrics), MAX_METRICS_PER_CALL):
        client.log_batch(run_id, metrics=metrics[start : start + MAX_METRICS_PER_CALL])


def log_params(client: "MlflowClient", run_id: str, params: Mapping[str, str | int | float]) -> None:
    """Record parameters. MLflow's are immutable: another value than the run has becomes a tag `changed.NAME`."""
    from mlflow.entities import Param

    run = client.get_run(run_id)
    known = run.data.params
    values = {name: value[:MAX_PARAM_LENGTH] for name, value in _shown(params).items()}
    new = [Param(name, value) for name, value in values.items() if name not in known]
    for start in range(0, len(new), MAX_PARAMS_PER_CALL):
        client.log_batch(run_id, params=new[start : start + MAX_PARAMS_PER_CALL])
    for name, value in values.items():
        if known.get(name, value) != value:
            client.set_tag(run_id, f"changed.{name}", value)
        elif f"changed.{name}" in run.data.tags:
            client.delete_tag(run_id, f"changed.{name}")


def log_tags(client: "MlflowClient", run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags, replacing older values."""
    from mlflow.entities import RunTag

    if tags:
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in _shown(tags).items()])


def log_table(client: "MlflowClient", run_id: str, path: str, frame: pd.DataFrame) -> None:
    """MLflow appends to a table that exists; a run that is written again must not grow."""
    folder = path.rpartition("/")[0]
    if path not in [artifact.path for artifact in client.list_artifacts(run_id, folder or None)]:
        client.log_table(run_id, frame, path)


def _shown(values: Mapping[str, str | int | float]) -> dict[str, str]:
    return {name: without_credentials(str(value)) for name, value in values.items()}
