"""MLflow's stores: opened, asked within a time, and read. MLflow is imported when it is called."""

import logging
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from charlstm.errors import NoStoreError, TrackingError
from charlstm.files.atomic import atomic_file
from charlstm.files.deadline import answer_within
from charlstm.files.lock import exclusive
from charlstm.files.sqlite_uri import sqlite_file, sqlite_uri
from charlstm.files.urls import hide_credentials, without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient

Value = TypeVar("Value")

MAX_RESULTS = 10_000  # of a search
SECONDS_FOR_AN_ANSWER, SECONDS_FOR_FILES = 60.0, 600.0
SECONDS_FOR_VERSION = 3.0
MAX_VERSION_BYTES = 1_000_000
EXPERIMENT = "charlstm"  # of our runs, where nothing else is said
CORPUS_TAG, RECIPE_TAG, EXPERIMENT_TAG = (
    "corpus_name",
    "recipe",
    "dvc_exp_name",
)  # the last: DVC's, not MLflow's
COMMON_REASONS = {
    "Connection refused": "it refuses the connection: is the server up?",
    "database is locked": "the database is locked by another process",
    **dict.fromkeys(
        ("Read timed out", "ConnectTimeout", "TimeoutError"), "it does not answer in time"
    ),
}


class Store(NamedTuple):
    """Where runs go: a tracking URI, an experiment, and where artifacts go if no server decides that."""

    uri: str
    experiment: str = EXPERIMENT
    artifact_root: str | None = None
    is_by_corpus: bool = (
        False  # an experiment `NAME/CORPUS` for each: losses of different texts cannot be compared
    )

    def experiment_of(self, corpus: str) -> str:
        """The name of the experiment for models of that corpus, which may be unknown (empty)."""
        return f"{self.experiment}/{corpus}" if self.is_by_corpus and corpus else self.experiment


def connect(store: Store) -> "MlflowClient":
    """A client that says little of its own, and no password."""
    from mlflow import MlflowClient

    for noisy in ("mlflow", "alembic"):  # both announce every table of a fresh database
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(
        logging.CRITICAL
    )  # a traceback of what is raised anyway
    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)  # what it lacks is no news
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it announces every try
    for source in (
        logging.getLogger("urllib3.connectionpool"),
        *logging.getLogger("mlflow").handlers,
    ):
        source.addFilter(hide_credentials)
    if (database := sqlite_file(store.uri)) and not database.exists():
        # MLflow makes it in many steps, and goes on with none that a killed process has begun.
        with exclusive(database, "making a database", lambda: True):
            if not database.exists():
                with atomic_file(database) as temporary:
                    MlflowClient(sqlite_uri(temporary)).search_experiments(max_results=1)
    if store.uri.startswith(("http://", "https://")):
        _check_server(store.uri)
    return MlflowClient(store.uri)


def _check_server(uri: str) -> None:
    """Raise a TrackingError if an answer of the server has no end, since MLflow would read it into memory."""
    import requests

    with suppress(
        requests.RequestException
    ):  # MLflow, which has all settings for TLS, says what is wrong
        answer = requests.get(
            f"{uri.rstrip('/')}/version", stream=True, timeout=SECONDS_FOR_VERSION
        )
        with answer:
            if len(next(answer.iter_content(MAX_VERSION_BYTES), b"")) == MAX_VERSION_BYTES:
                raise TrackingError(
                    f"{without_credentials(uri)}: expected an MLflow server, got an answer without end"
                )


def describe(error: Exception, store: Store) -> str:
    """What went wrong, in one line, in a few words where it is a common thing; without what a URI has of secrets."""
    text = f"{type(error).__name__}: {error}"
    reason = next(
        (why for words, why in COMMON_REASONS.items() if words in text), without_credentials(text)
    )
    reason = "".join(
        character if character.isprintable() else " " for character in reason
    )  # an answer may be binary
    return textwrap.shorten(
        f"MLflow at {without_credentials(store.uri)}: {reason}", 300, placeholder=" ..."
    )


def ask(store: Store, call: Callable[[], Value], seconds: float = SECONDS_FOR_AN_ANSWER) -> Value:
    """What `call` returns, which asks the store; TrackingError for whatever it raises, and for no answer."""
    try:
        return answer_within(seconds, call)
    except TrackingError:
        raise
    except Exception as error:
        raise TrackingError(describe(error, store)) from None


def check_exists(store: Store) -> None:
    """NoStoreError if the store is a database in a file that is not there: MLflow would make it."""
    if (database := sqlite_file(store.uri)) and not database.is_file():
        raise NoStoreError(
            f"{database}: no run was made here yet; if yours are elsewhere, set MLFLOW_TRACKING_URI"
        )


def start_monitor(store: Store, run_id: str) -> Any:  # noqa: ANN401  # mlflow's SystemMetricsMonitor
    """Have MLflow send how busy this machine is, from where the run has it on."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=store.uri)
    monitor.start()
    return monitor


def shown(values: Mapping[str, str | int | float]) -> dict[str, str]:
    """Values as texts, without the passwords of URLs."""
    # Of a name that is not UTF-8, Python makes characters that MLflow cannot take.
    return {
        name: without_credentials(str(value)).encode(errors="replace").decode()
        for name, value in values.items()
    }


class TrackedRun(NamedTuple):
    """A run as the store has it."""

    run_id: str
    name: str
    status: str
    start_ms: int  # since 1970
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]


class Reader:
    """The runs of every experiment of a store; of each search the newest first.

    Raises:
        TrackingError: here and in each method: the store does not answer, or there is none.
    """

    def __init__(self, store: Store) -> None:
        check_exists(store)
        self._store, self._client = store, ask(store, lambda: connect(store))
        found = ask(store, lambda: self._client.search_experiments(max_results=MAX_RESULTS))
        self._experiments = [experiment.experiment_id for experiment in found]

    def by_hash(self, prefix: str, tag: str) -> list[TrackedRun]:
        """Runs whose id, or else that tag, begins with `prefix`, of hexadecimal digits."""
        by_id = self._search(f"attributes.run_id LIKE '{prefix}%'")
        return by_id or self._search(f"tags.`{tag}` LIKE '{prefix}%'")

    def by_name(self, name: str) -> list[TrackedRun]:
        """Runs of that name. None is found if it has a double quote, which MLflow's filters cannot escape."""
        return [] if '"' in name else self._search(f'attributes.run_name = "{name}"')

    def by_tag(self, tag: str, value: str) -> list[TrackedRun]:
        """Runs with that tag; `value` is a hash or the like, without quotes."""
        return self._search(f"tags.`{tag}` = '{value}'")

    def all(self) -> list[TrackedRun]:
        """Every run."""
        return self._search("")

    def text(self, run: TrackedRun, path: str) -> str | None:
        """The artifact `path` as text; None if the run has none."""

        def download() -> str | None:
            if path not in [
                info.path
                for info in self._client.list_artifacts(run.run_id, path.rpartition("/")[0])
            ]:
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
