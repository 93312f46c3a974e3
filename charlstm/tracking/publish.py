"""The update of an MLflow run to match a snapshot.

`publish` compares the run with the snapshot and sends the difference, so any process may call it at
any time. If two metric points have the same name, step, time and value, MLflow stores them once.
Therefore each point carries the time of its measurement, not the time of the call.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from charlstm.errors import TrackingError
from charlstm.history import EpochRow, StepRow, now_ms
from charlstm.tracking.client import CORPUS_TAG, MAX_RESULTS, Store, encodable, shown
from charlstm.tracking.registered_model import LoggedModel, log_model, register

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, Run, RunTag


TRAINING_TAG = "training_id"
# Run statuses in MLflow.
FINISHED = "FINISHED"
RUNNING = "RUNNING"
KILLED = "KILLED"
FAILED = "FAILED"
EPOCH_TEXTS = "texts"  # artifact folder whose files never change
Params = Mapping[str, str | bool | int | float]  # dotted name -> value


class Row(NamedTuple):
    """Metrics measured at one point during training."""

    step: int
    time_ms: int  # milliseconds since 1970
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Snapshot:
    """The desired content of a run: the newest run whose tag `tag` is `value`, or a new run."""

    tag: str
    value: str
    start_ms: int
    rows: Sequence[Row]
    params: Params = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    new_tags: Mapping[str, str] = field(default_factory=dict)  # set only when the run is created
    measured: Mapping[str, float] = field(default_factory=dict)  # metrics without steps
    texts: Mapping[str, str] = field(default_factory=dict)  # artifact path -> text
    files: Mapping[str, Path] = field(default_factory=dict)  # artifact path -> file
    model: LoggedModel | None = None
    status: str = FINISHED
    reason: str = ""  # why the run ended
    end_ms: int = 0  # if 0, the run ends at its start time


MAX_TAG_LENGTH = 8_000  # MLflow's limit, in characters
TABLES_TAG = "mlflow.loggedArtifacts"  # JSON list of the tables that MLflow's page compares


def publish(client: "MlflowClient", store: Store, snapshot: Snapshot) -> str:
    """Create or update the MLflow run to match a snapshot. Return the run's id."""
    corpus = snapshot.new_tags.get(CORPUS_TAG, "")
    run = find_run(client, snapshot.tag, snapshot.value)
    if run is None:
        run = _create_run(client, store, corpus, snapshot)
    run_id = str(run.info.run_id)

    params = _new_params(run, snapshot)
    # Without `synchronous`, errors would be lost if MLFLOW_ENABLE_ASYNC_LOGGING is set.
    client.log_batch(run_id, _new_metrics(run, snapshot), params, synchronous=True)
    _upload(client, run_id, snapshot)
    if snapshot.model is not None:
        register(client, run_id, log_model(client, run_id, snapshot.model), corpus, snapshot.model)
    # Later stages find the run by its model-hash tag, so tags are written after the content.
    client.log_batch(run_id, tags=_new_tags(run, snapshot), synchronous=True)
    _set_status(client, run, snapshot)
    return run_id


def find_run(client: "MlflowClient", tag: str, value: str) -> "Run | None":
    """Return the newest run that has this tag with this value, or None. Search all experiments."""
    experiments = client.search_experiments(max_results=MAX_RESULTS)
    experiment_ids = [experiment.experiment_id for experiment in experiments]
    condition = f"tags.{tag} = '{value}'"
    newest = client.search_runs(
        experiment_ids, condition, max_results=1, order_by=["start_time DESC"]
    )
    return newest[0] if newest else None


def find_or_create_experiment(client: "MlflowClient", store: Store, corpus: str) -> str:
    """Return the id of the corpus's experiment. Create the experiment if it is missing."""
    name = store.experiment_of(corpus)
    if experiment := client.get_experiment_by_name(name):
        return str(experiment.experiment_id)
    # This tag makes MLflow's page show loss curves instead of traces of language models.
    kind = {"mlflow.experimentKind": "custom_model_development"}
    return str(client.create_experiment(name, store.artifact_root, kind))


def _create_run(client: "MlflowClient", store: Store, corpus: str, snapshot: Snapshot) -> "Run":
    experiment_id = find_or_create_experiment(client, store, corpus)
    tags = shown({**snapshot.new_tags, snapshot.tag: snapshot.value})
    run = client.create_run(experiment_id, start_time=snapshot.start_ms, tags=tags)
    if not run.info.run_id:
        raise TrackingError(
            "expected an MLflow server, but the response contains no run id; check the address"
        )
    return run


def _new_params(run: "Run", snapshot: Snapshot) -> list["Param"]:
    """Return the parameters that the run lacks. MLflow does not allow changing a parameter."""
    from mlflow.entities import Param

    known = run.data.params
    return [Param(*item) for item in shown(snapshot.params).items() if item[0] not in known]


def _new_metrics(run: "Run", snapshot: Snapshot) -> list["Metric"]:
    """Return the metric points that the run lacks. Add changed metrics that have no steps.

    MLflow already has all points up to a metric's last step, because a resumed training repeats
    steps with the same values.
    """
    from mlflow.entities import Metric

    # Only the protobuf message contains the steps, which `run.data.metrics` lacks.
    points = run.to_proto().data.metrics
    last_steps = {str(point.key): int(point.step) for point in points}
    return [
        Metric(name, value, row.time_ms, row.step)
        for row in snapshot.rows
        for name, value in row.metrics.items()
        if row.step > last_steps.get(name, -1)
    ] + [
        Metric(name, value, now_ms(), 0)
        for name, value in snapshot.measured.items()
        if run.data.metrics.get(name) != value
    ]


def _upload(client: "MlflowClient", run_id: str, snapshot: Snapshot) -> None:
    """Upload texts and files. Skip epoch texts that the run already has: they never change."""
    for path, text in snapshot.texts.items():
        client.log_text(run_id, encodable(text), path)
    if not snapshot.files:
        return
    known = {info.path for info in client.list_artifacts(run_id, EPOCH_TEXTS)}
    for path, file in snapshot.files.items():
        if path not in known:
            client.log_artifact(run_id, str(file), path.rpartition("/")[0])


def _new_tags(run: "Run", snapshot: Snapshot) -> list["RunTag"]:
    """Return the tags that differ from the run's tags. A new `mlflow.runName` renames the run."""
    from mlflow.entities import RunTag

    # Tags are truncated here, because a tag that MLflow truncates would differ at every call.
    tags = {name: value[:MAX_TAG_LENGTH] for name, value in shown(snapshot.tags).items()}
    return [RunTag(*item) for item in tags.items() if item not in run.data.tags.items()]


def _set_status(client: "MlflowClient", run: "Run", snapshot: Snapshot) -> None:
    """Set the run's status, unless another machine has already finished the training."""
    run_id = run.info.run_id
    if run.info.status == FINISHED:
        return
    if run.data.tags.get("ended", "") != snapshot.reason[:MAX_TAG_LENGTH]:
        client.set_tag(run_id, "ended", snapshot.reason, synchronous=True)
    if snapshot.status != RUNNING:
        # Without `max`, the run would end before its start if the clock was set back.
        end_ms = max(snapshot.end_ms, run.info.start_time)
        client.set_terminated(run_id, snapshot.status, end_ms)
    elif run.info.status != RUNNING:
        client.update_run(run_id, status=RUNNING)


def step_metrics(row: StepRow) -> dict[str, float]:
    """Return the MLflow metrics for a row of the training history.

    MLflow's page groups metrics by the part of the name before the slash.
    """
    return {
        "loss/training": row.train_nats_per_char,
        "train/gradient_norm": row.gradient_norm,
        "train/learning_rate": row.learning_rate,
    }


def epoch_metrics(row: EpochRow) -> dict[str, float]:
    """Return the MLflow metrics for an epoch: its training and validation losses."""
    return {
        "loss/validation": row.val_nats_per_char,
        "loss/training_epoch": row.train_nats_per_char,
    }
