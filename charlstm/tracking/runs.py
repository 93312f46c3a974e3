"""MLflow runs: a view of what the files already say.

The tie between a model and its run is content: a run carries the SHA-256 of the model's weights as a tag, and a later
stage finds the run by it, or makes one from the files when this server has none.

Everything is sent from one background thread. A server that is slow, full or dead costs a warning, never the training.
"""

import logging
import queue
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from charlstm.storage.urls import without_credentials
from charlstm.tracking import client as calls
from charlstm.tracking.client import Store
from charlstm.tracking.measurements import Measurement, epoch_metrics, step_metrics
from charlstm.training.history import EpochRow, StepRow

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

MODEL_TAG = "model_sha256"
TRAINING_TAG = "training_id"
CLOSE_TIMEOUT_SECONDS = 60


class TrainingRecord(NamedTuple):
    """What is known of a finished training from its files: enough to rebuild its run."""

    params: Mapping[str, str | int | float]
    tags: Mapping[str, str]
    epochs: pd.DataFrame
    steps: pd.DataFrame
    texts: pd.DataFrame


class Run:
    """One MLflow run, written in the background, in order.

    `find` is called with the client in the background thread and returns the id of the run to write to.
    """

    def __init__(self, store: Store, find: Callable[["MlflowClient", str], str]) -> None:
        self._jobs: queue.Queue[Callable[[MlflowClient, str], object] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, args=(store, find), daemon=True, name="mlflow")
        self._thread.start()

    def log_params(self, params: Mapping[str, str | int | float]) -> None:
        """Record parameters; one that the run has already keeps its first value, and another one becomes a tag."""
        self._jobs.put(lambda client, run_id: calls.log_params(client, run_id, params))

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, replacing older values."""
        self._jobs.put(lambda client, run_id: calls.log_tags(client, run_id, tags))

    def log_metrics(self, measurements: Iterable[Measurement]) -> None:
        """Record metric values."""
        values, now = list(measurements), int(time.time() * 1000)
        self._jobs.put(lambda client, run_id: calls.log_metrics(client, run_id, values, now))

    def log_text(self, path: str, text: str) -> None:
        """Store `text` as the artifact `path`."""
        self._jobs.put(lambda client, run_id: client.log_text(run_id, text, path))

    def log_file(self, file: Path, folder: str | None = None) -> None:
        """Store a file as an artifact, in `folder` of the run."""
        self._jobs.put(lambda client, run_id: client.log_artifact(run_id, str(file), folder))

    def log_table(self, path: str, frame: pd.DataFrame) -> None:
        """Store a table as the artifact `path`, a `.json`; one that is there already is left alone."""
        self._jobs.put(lambda client, run_id: calls.log_table(client, run_id, path, frame))

    def close(self, status: str | None = None) -> None:
        """Wait until all is sent, and end the run with `status` (FINISHED, FAILED, KILLED) if given."""
        if status is not None:
            self._jobs.put(lambda client, run_id: client.set_terminated(run_id, status))
        self._jobs.put(None)
        self._thread.join(CLOSE_TIMEOUT_SECONDS)
        if self._thread.is_alive():
            log.warning("MLflow did not answer within %d s; the rest is in the files only", CLOSE_TIMEOUT_SECONDS)

    def _work(self, store: Store, find: Callable[["MlflowClient", str], str]) -> None:
        has_warned = False
        try:
            client, experiment_id = calls.open_store(store)
            run_id = find(client, experiment_id)
        except Exception as error:  # whatever a server, a driver or a disk can raise: the files are the record
            _warn(store, error)
            return
        while (job := self._jobs.get()) is not None:
            try:
                job(client, run_id)
            except Exception as error:  # likewise; what comes after may still go through
                if not has_warned:
                    _warn(store, error)
                has_warned = True


def attach(store: Store, model_sha256: str, record: TrainingRecord) -> Run:
    """The run of the model with that hash; one made from `record` if the store has none."""

    def find(client: "MlflowClient", experiment_id: str) -> str:
        return calls.find_run(client, experiment_id, MODEL_TAG, model_sha256) or _create_from(
            client, experiment_id, model_sha256, record
        )

    return Run(store, find)


def read_metrics(store: Store, model_sha256: str) -> dict[str, float]:
    """The latest metrics of the model's run; empty if there is no such run or the store does not answer."""
    try:
        client, experiment_id = calls.open_store(store)
        run_id = calls.find_run(client, experiment_id, MODEL_TAG, model_sha256)
        return dict(client.get_run(run_id).data.metrics) if run_id else {}
    except Exception as error:  # as in Run: the view may be gone, the files are not
        _warn(store, error)
        return {}


def resume_run(client: "MlflowClient", experiment_id: str, tags: Mapping[str, str], past: Sequence[Measurement]) -> str:
    """The id of the run with the same `training_id`, open again; or that of a new one, with the `past`."""
    run_id = calls.find_run(client, experiment_id, TRAINING_TAG, tags[TRAINING_TAG])
    if run_id is None:
        run_id = calls.create_run(client, experiment_id, tags)
        calls.log_metrics(client, run_id, past, int(time.time() * 1000))
    else:
        client.update_run(run_id, status="RUNNING")
        calls.log_tags(client, run_id, tags)
    return run_id


def _create_from(client: "MlflowClient", experiment_id: str, model_sha256: str, record: TrainingRecord) -> str:
    tags = {**record.tags, MODEL_TAG: model_sha256, "made_from": "files"}
    run_id = calls.create_run(client, experiment_id, tags)
    now = int(time.time() * 1000)
    calls.log_params(client, run_id, record.params)
    step_rows = [StepRow(*row) for row in record.steps[list(StepRow._fields)].itertuples(index=False)]
    epoch_rows = [EpochRow(*row) for row in record.epochs[list(EpochRow._fields)].itertuples(index=False)]
    calls.log_metrics(client, run_id, [*step_metrics(step_rows), *epoch_metrics(epoch_rows)], now)
    calls.log_table(client, run_id, "texts/by-epoch.json", record.texts)
    client.set_terminated(run_id, "FINISHED")
    return run_id


def _warn(store: Store, error: Exception) -> None:
    """One line without what a URI may hold of secrets."""
    reason = without_credentials(f"{type(error).__name__}: {error}", store.uri)
    message = " ".join(f"MLflow at {without_credentials(store.uri)}: {reason}".split())
    log.warning("%s; nothing is lost: the files have everything", textwrap.shorten(message, 300, placeholder=" ..."))
