"""Makes an MLflow run agree with a snapshot: `publish` asks what the run has, and sends the rest.

Anybody may call it at any time, any number of times. MLflow stores one of two points whose name, step, time and value
are the same, so each point has the time at which it was measured, not that of the call.
"""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from charlstm.errors import TrackingError
from charlstm.history import now_ms
from charlstm.tracking.client import CORPUS_TAG, MAX_RESULTS, Store, shown
from charlstm.tracking.registered_model import log_model, register
from charlstm.tracking.snapshot import EPOCH_TEXTS, FINISHED, RUNNING, Snapshot

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

MAX_PARAM_LENGTH, MAX_TAG_LENGTH = 6_000, 8_000  # MLflow's limits
MAX_METRICS_PER_CALL = 1_000
TABLES_TAG = "mlflow.loggedArtifacts"  # JSON: the tables that the UI lays side by side


def publish(client: "MlflowClient", store: Store, snapshot: Snapshot) -> str:
    """Create or update the run to match a snapshot. Return its id."""
    corpus = {**snapshot.new_tags, **snapshot.tags}.get(CORPUS_TAG, "")
    run = find_run(client, snapshot.tag, snapshot.value) or _create_run(
        client, store, corpus, snapshot
    )
    run_id = str(run.info.run_id)
    _log_params(client, run, snapshot)
    _log_metrics(client, run, snapshot)
    _upload(client, run_id, snapshot)
    if snapshot.model is not None:
        register(client, run_id, log_model(client, run_id, snapshot.model), corpus, snapshot.model)
    # The hash of the model comes last: later stages find the run by it, and then expect all the rest.
    _log_tags(client, run, snapshot)
    _set_status(client, run, snapshot)
    return run_id


def find_run(client: "MlflowClient", tag: str, value: str) -> "Run | None":
    """Return the newest run with that tag, in any experiment. Return None if there is none."""
    experiment_ids = [
        one.experiment_id for one in client.search_experiments(max_results=MAX_RESULTS)
    ]
    newest = client.search_runs(
        experiment_ids, f"tags.{tag} = '{value}'", max_results=1, order_by=["start_time DESC"]
    )
    return newest[0] if newest else None


def find_or_create_experiment(client: "MlflowClient", store: Store, corpus: str) -> str:
    """Return the id of the experiment for models of that corpus."""
    name = store.experiment_of(corpus)
    if known := client.get_experiment_by_name(name):
        if known.lifecycle_stage == "deleted":
            restore = f"mlflow experiments restore --experiment-id {known.experiment_id}"
            raise TrackingError(
                f"the experiment {name} was deleted in MLflow: `{restore}` brings it back"
            )
        return str(known.experiment_id)
    kind = {
        "mlflow.experimentKind": "custom_model_development"
    }  # the UI shows loss curves, not model traces
    return str(client.create_experiment(name, store.artifact_root, kind))


def _create_run(client: "MlflowClient", store: Store, corpus: str, snapshot: Snapshot) -> "Run":
    experiment_id = find_or_create_experiment(client, store, corpus)
    tags = shown({**snapshot.new_tags, snapshot.tag: snapshot.value})
    created = client.create_run(experiment_id, start_time=snapshot.start_ms, tags=tags)
    if not (run_id := created.info.run_id):
        raise TrackingError("it answers without the id of the new run: expected an MLflow server")
    return client.get_run(run_id)


def _log_params(client: "MlflowClient", run: "Run", snapshot: Snapshot) -> None:
    """Log the parameters that the run lacks. MLflow never changes one: of a stage that ran twice, the first stays."""
    from mlflow.entities import Param

    values = {name: value[:MAX_PARAM_LENGTH] for name, value in shown(snapshot.params).items()}
    if new := [Param(name, value) for name, value in values.items() if name not in run.data.params]:
        client.log_batch(run.info.run_id, params=new, synchronous=True)


def _log_metrics(client: "MlflowClient", run: "Run", snapshot: Snapshot) -> None:
    metrics = _new_metrics(run, snapshot)
    while batch := list(islice(metrics, MAX_METRICS_PER_CALL)):
        client.log_batch(run.info.run_id, metrics=batch, synchronous=True)


def _new_metrics(run: "Run", snapshot: Snapshot) -> Iterator["Metric"]:
    """Yield the points after each metric's last step, then the single metrics that differ.

    Points before the last step are known: a resumed training repeats some steps, with the same values.
    """
    from mlflow.entities import Metric

    last_steps = {
        str(metric.key): int(metric.step) for metric in run.to_proto().data.metrics
    }  # `data.metrics` has none
    # An epoch follows the row of its last step, which may have been sent without it.
    for row in snapshot.rows_after(last_steps.get("loss/training", 0) - 1):
        for name, value in row.metrics.items():
            if row.step > last_steps.get(name, -1):
                yield Metric(name, value, row.time_ms, row.step)
    for name, value in snapshot.measured.items():
        if run.data.metrics.get(name) != value:
            yield Metric(name, value, now_ms(), 0)


def _upload(client: "MlflowClient", run_id: str, snapshot: Snapshot) -> None:
    """Upload texts and files. The texts of an epoch never change, so those that the run has are left out."""
    is_known = (
        {info.path for info in client.list_artifacts(run_id, EPOCH_TEXTS)}
        if snapshot.files
        else set()
    )
    for path, text in snapshot.texts.items():
        client.log_text(run_id, text.encode(errors="replace").decode(), path)
    for path, file in snapshot.files.items():
        if path not in is_known:
            client.log_artifact(run_id, str(file), path.rpartition("/")[0])


def _log_tags(client: "MlflowClient", run: "Run", snapshot: Snapshot) -> None:
    """Set the tags that differ. `mlflow.runName` renames the run."""
    from mlflow.entities import RunTag

    values = {name: value[:MAX_TAG_LENGTH] for name, value in shown(snapshot.tags).items()}
    if new := [
        RunTag(name, value) for name, value in values.items() if run.data.tags.get(name) != value
    ]:
        client.log_batch(run.info.run_id, tags=new, synchronous=True)


def _set_status(client: "MlflowClient", run: "Run", snapshot: Snapshot) -> None:
    """Set the status. FINISHED stays: another machine trained to the end."""
    run_id = run.info.run_id
    if run.info.status in (FINISHED, snapshot.status):
        return
    if snapshot.status == RUNNING:
        client.update_run(run_id, status=RUNNING)
        return
    if snapshot.reason:
        client.set_tag(run_id, "ended", snapshot.reason[:MAX_TAG_LENGTH], synchronous=True)
    end_ms = max(
        snapshot.end_ms or snapshot.start_ms, run.info.start_time
    )  # a clock may have been set back
    client.set_terminated(run_id, snapshot.status, end_ms)
