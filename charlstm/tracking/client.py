"""Access to MLflow stores within time limits. MLflow is imported only when a function needs it."""

import logging
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from charlstm.errors import NoStoreError, TrackingError
from charlstm.files.atomic import atomic_file
from charlstm.files.deadline import answer_within
from charlstm.files.lock import exclusive
from charlstm.files.sqlite_uri import sqlite_file, sqlite_uri
from charlstm.files.urls import hide_credentials, without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

Value = TypeVar("Value")

MAX_RESULTS = 10_000  # per search
SECONDS_FOR_AN_ANSWER = 60.0
SECONDS_FOR_FILES = 600.0
SECONDS_FOR_VERSION = 3.0
MAX_VERSION_BYTES = 1_000_000
EXPERIMENT = "charlstm"  # default name of the experiments
CORPUS_TAG = "corpus_name"
RECIPE_TAG = "recipe"
EXPERIMENT_TAG = "dvc_exp_name"  # a DVC experiment, not an MLflow experiment
LOG_LEVELS = {
    "alembic": "WARNING",  # announces every table of a new database, like mlflow
    "mlflow": "WARNING",
    "mlflow.store.db.utils": "CRITICAL",  # logs the stack trace of errors that it also raises
    "mlflow.system_metrics": "ERROR",  # warns about libraries that are not installed
    "urllib3.connectionpool": "ERROR",  # announces every retry
}
TIMEOUT_REASON = "it does not answer in time"
COMMON_REASONS = {
    "Connection refused": "it refuses the connection: is the server up?",
    "database is locked": "the database is locked by another process",
    "Read timed out": TIMEOUT_REASON,
    "ConnectTimeout": TIMEOUT_REASON,
    "TimeoutError": TIMEOUT_REASON,
}


class Store(NamedTuple):
    """An MLflow store: tracking URI, experiment, and artifact root unless the server decides it.

    If `is_by_corpus`, each corpus has an experiment `NAME/CORPUS`, because losses of different
    texts are not comparable.
    """

    uri: str
    experiment: str = EXPERIMENT
    artifact_root: str | None = None
    is_by_corpus: bool = False

    def experiment_of(self, corpus: str) -> str:
        """Return the experiment name for models of a corpus. An empty `corpus` means unknown."""
        return f"{self.experiment}/{corpus}" if self.is_by_corpus and corpus else self.experiment


def connect(store: Store) -> "MlflowClient":
    """Return a client that logs little and no password. Create a missing SQLite database."""
    from mlflow import MlflowClient

    for name, level in LOG_LEVELS.items():
        logging.getLogger(name).setLevel(level)
    for handler in logging.getLogger("mlflow").handlers:
        handler.addFilter(hide_credentials)

    if (database := sqlite_file(store.uri)) and not database.exists():
        # MLflow creates its tables in many steps and cannot continue after a kill in between.
        with exclusive(database, "making a database", lambda: True):
            if not database.exists():
                with atomic_file(database) as temporary:
                    MlflowClient(sqlite_uri(temporary)).search_experiments(max_results=1)

    if store.uri.startswith(("http://", "https://")):
        _check_server(store.uri)
    return MlflowClient(store.uri)


def _check_server(uri: str) -> None:
    """Raise TrackingError if the server's answer is endless: MLflow would read it into memory."""
    import requests

    address = f"{uri.rstrip('/')}/version"
    # MLflow repeats a failed request with all TLS settings and reports the error.
    with (
        suppress(requests.RequestException),
        requests.get(address, stream=True, timeout=SECONDS_FOR_VERSION) as answer,
    ):
        if len(next(answer.iter_content(MAX_VERSION_BYTES), b"")) == MAX_VERSION_BYTES:
            raise TrackingError(
                f"{without_credentials(uri)}: expected an MLflow server, got an endless answer"
            )


def describe(error: Exception, store: Store) -> str:
    """Return a one-line message for an error of MLflow, without the passwords of URLs."""
    text = f"{type(error).__name__}: {error}"
    reasons = (reason for words, reason in COMMON_REASONS.items() if words in text)
    reason = next(reasons, without_credentials(text))
    # The answer of a broken server may be binary.
    reason = "".join(character if character.isprintable() else " " for character in reason)
    return textwrap.shorten(
        f"MLflow at {without_credentials(store.uri)}: {reason}", 300, placeholder=" ..."
    )


def ask(store: Store, call: Callable[[], Value], seconds: float = SECONDS_FOR_AN_ANSWER) -> Value:
    """Return the result of `call`, which sends requests to the store.

    Raises:
        TrackingError: `call` raised an exception, or did not return within `seconds`.
    """
    try:
        return answer_within(seconds, call)
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(describe(error, store)) from None


def check_exists(store: Store) -> None:
    """Raise NoStoreError if the store is a missing SQLite file, which MLflow would create."""
    if (database := sqlite_file(store.uri)) and not database.is_file():
        raise NoStoreError(
            f"{database}: no run was made here yet; if yours are elsewhere, set MLFLOW_TRACKING_URI"
        )


def start_monitor(store: Store, run_id: str) -> Thread:
    """Start MLflow's measurement of this machine's load. Return its thread.

    The thread ends if the run is no longer RUNNING, or after its first failed request.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=store.uri)
    # `monitor.start()` would hide the thread, so that nobody could see when it ends.
    thread = Thread(target=monitor.monitor, daemon=True)
    thread.start()
    return thread


def shown(values: Mapping[str, str | int | float]) -> dict[str, str]:
    """Return the values as texts for MLflow, without the passwords of URLs."""
    return {name: encodable(without_credentials(str(value))) for name, value in values.items()}


def encodable(text: str) -> str:
    """Return the text with `?` for unpaired surrogates, which MLflow refuses.

    Python puts surrogates into file names that are not UTF-8.
    """
    return text.encode(errors="replace").decode()
