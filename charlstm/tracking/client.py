"""Access to MLflow stores within time limits. MLflow is imported only when a function needs it."""

import logging
import os
import re
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import quote, unquote

from charlstm.errors import NoStoreError, TrackingError
from charlstm.files.atomic import atomic_file
from charlstm.files.deadline import answer_within
from charlstm.files.lock import exclusive
from charlstm.files.urls import hide_credentials, without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

Value = TypeVar("Value")

MAX_RESULTS = 10_000  # maximum number of results of one search
SECONDS_FOR_AN_ANSWER = 60.0
SECONDS_FOR_FILES = 600.0
MAX_CHARS = 500  # of an error message
EXPERIMENT = "charlstm"  # default name of an MLflow experiment
CORPUS_TAG = "corpus_name"
RECIPE_TAG = "recipe"
EXPERIMENT_TAG = "dvc_exp_name"  # names a DVC experiment, not an MLflow experiment
LOG_LEVELS = {
    "alembic": "WARNING",  # at level INFO, alembic and mlflow log every table of a new database
    "mlflow": "WARNING",
    "mlflow.store.db.utils": "CRITICAL",  # logs the stack trace of errors that it also raises
    "mlflow.system_metrics": "ERROR",  # warns about libraries that are not installed
    "urllib3.connectionpool": "ERROR",  # logs every retry
}


class Store(NamedTuple):
    """An MLflow store: its tracking URI, its experiment name and its artifact root.

    If `artifact_root` is None, the server decides where artifacts are stored. If `is_by_corpus`,
    each corpus has its own experiment `NAME/CORPUS`, because losses on different texts are not
    comparable.
    """

    uri: str
    experiment: str = EXPERIMENT
    artifact_root: str | None = None
    is_by_corpus: bool = False

    def experiment_of(self, corpus: str) -> str:
        """Return the experiment name for a corpus. If `corpus` is empty, the corpus is unknown."""
        return f"{self.experiment}/{corpus}" if self.is_by_corpus and corpus else self.experiment


def connect(store: Store) -> "MlflowClient":
    """Return a client that logs no passwords. Create the SQLite database if it is missing."""
    from mlflow import MlflowClient

    for name, level in LOG_LEVELS.items():
        logging.getLogger(name).setLevel(level)
    for handler in logging.getLogger("mlflow").handlers:
        handler.addFilter(hide_credentials)

    if (database := sqlite_file(store.uri)) and not database.exists():
        # Create the database atomically, because MLflow cannot complete a half-created one.
        with exclusive(database, "creating the database", waits=True):
            if not database.exists():
                with atomic_file(database) as temporary:
                    MlflowClient(sqlite_uri(temporary)).search_experiments(max_results=1)
    return MlflowClient(store.uri)


def describe(error: Exception, store: Store) -> str:
    """Return a one-line message for an MLflow error, with passwords removed from URLs."""
    message = without_credentials(f"{type(error).__name__}: {error}")
    # A broken server may send binary data, so replace characters that cannot be printed.
    message = "".join(character if character.isprintable() else " " for character in message)
    return textwrap.shorten(f"MLflow at {without_credentials(store.uri)}: {message}", MAX_CHARS)


def ask(store: Store, call: Callable[[], Value], seconds: float = SECONDS_FOR_AN_ANSWER) -> Value:
    """Call `call`, which sends requests to the store, with a time limit. Return its result.

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
    """Raise NoStoreError if the store's SQLite file is missing, because MLflow would create it."""
    if (database := sqlite_file(store.uri)) and not database.is_file():
        raise NoStoreError(
            f"{database}: this MLflow database does not exist yet; "
            "if your runs are in another store, set MLFLOW_TRACKING_URI"
        )


def start_monitor(store: Store, run_id: str) -> Thread:
    """Start the thread in which MLflow measures this machine's load. Return the thread.

    The thread ends when the run is no longer RUNNING or a request fails.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=store.uri)
    # `monitor.start()` would not return the thread, but the caller must see when the thread ends.
    thread = Thread(target=monitor.monitor, daemon=True)
    thread.start()
    return thread


def shown(values: Mapping[str, str | int | float]) -> dict[str, str]:
    """Return the values as strings for MLflow, with passwords removed from URLs."""
    return {name: encodable(without_credentials(str(value))) for name, value in values.items()}


def encodable(text: str) -> str:
    """Replace every unpaired surrogate with `?`, because MLflow rejects surrogates.

    Python puts surrogates into file names that are not UTF-8.
    """
    return text.encode(errors="replace").decode()


class TrackedRun(NamedTuple):
    """An MLflow run."""

    run_id: str
    name: str
    status: str
    start_ms: int  # milliseconds since 1970
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


class Reader:
    """A reader of the runs in all experiments of a store. Searches return the newest run first.

    Raises:
        TrackingError: from every method, if the store is missing or does not answer.
    """

    def __init__(self, store: Store) -> None:
        check_exists(store)
        self._store = store
        self._client = ask(store, lambda: connect(store))
        found = ask(store, lambda: self._client.search_experiments(max_results=MAX_RESULTS))
        self._experiments = [experiment.experiment_id for experiment in found]

    def by_hash(self, prefix: str, tag: str) -> list[TrackedRun]:
        """Return the runs whose id starts with `prefix` or, if there are none, whose `tag` does."""
        by_id = self._search(f"attributes.run_id LIKE '{prefix}%'")
        return by_id or self._search(f"tags.`{tag}` LIKE '{prefix}%'")

    def by_name(self, name: str) -> list[TrackedRun]:
        """Return the runs with this name, which must not contain quotes."""
        return self._search(f"attributes.run_name = '{name}'")

    def by_tag(self, tag: str, value: str) -> list[TrackedRun]:
        """Return the runs whose tag has this value, which must not contain quotes."""
        return self._search(f"tags.`{tag}` = '{value}'")

    def all(self) -> list[TrackedRun]:
        """Return all runs of the store."""
        return self._search("")

    def text(self, run: TrackedRun, path: str) -> str | None:
        """Return the text of the run's artifact at `path`, or None if the artifact is missing."""

        def download() -> str | None:
            siblings = self._client.list_artifacts(run.run_id, path.rpartition("/")[0])
            if path not in [info.path for info in siblings]:
                return None
            with tempfile.TemporaryDirectory() as target:
                file = Path(self._client.download_artifacts(run.run_id, path, target))
                return file.read_bytes().decode(errors="replace")

        return ask(self._store, download)

    def _search(self, condition: str) -> list[TrackedRun]:
        search = self._client.search_runs
        found = ask(
            self._store, lambda: search(self._experiments, condition, max_results=MAX_RESULTS)
        )
        return [
            TrackedRun(
                run.info.run_id, run.info.run_name or "", run.info.status, run.info.start_time,
                dict(run.data.tags), dict(run.data.params), dict(run.data.metrics),
            )
            for run in found
        ]  # fmt: skip


# Characters that stay unquoted in a URI: printable ASCII except `?` and `%`.
# A `?` would begin a query, and SQLAlchemy would decode a `%`.
_PLAIN = "".join(chr(code) for code in range(32, 127) if chr(code) not in "%?")


def sqlite_uri(file: Path) -> str:
    """Return the URI of a database file. The path of the file may contain any characters."""
    path = quote(os.fsencode(file), safe=_PLAIN)
    # If a URI begins with `sqlite:///`, MLflow creates the folder under its quoted name.
    return f"sqlite:///{path}" if path == str(file) else f"sqlite+pysqlite:///{path}"


def sqlite_file(uri: str) -> Path | None:
    """Return the SQLite file that a database URI names, or None if the URI names no such file."""
    match = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", uri)
    if match is None or match[1].startswith((":memory:", "file:")):
        return None
    return Path(unquote(match[1], errors="surrogateescape"))
