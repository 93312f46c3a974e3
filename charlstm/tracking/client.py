"""MLflow's stores: open one, find experiments and runs in it, or make them. MLflow is imported when it is called."""

import logging
import os
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote

from charlstm.errors import TrackingError
from charlstm.files.urls import hide_credentials, without_credentials

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


# An MLflow database in a file.

# As it is in a URI: what is printed, but for `?`, which begins a query, and `%`, which SQLAlchemy decodes.
_PLAIN = "".join(chr(code) for code in range(32, 127) if chr(code) not in "%?")


def sqlite_uri(file: Path) -> str:
    """The URI of the database in `file`, whatever characters its path has."""
    path = quote(os.fsencode(file), safe=_PLAIN)
    # Of what begins with `sqlite:///`, MLflow makes the folder, under the name as it is in the URI.
    return f"sqlite:///{path}" if path == str(file) else f"sqlite+pysqlite:///{path}"


def sqlite_file(uri: str) -> Path | None:
    """The file of a database, as SQLAlchemy reads its URI; None if the URI is of something else."""
    match = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", uri)
    if match is None or match[1].startswith((":memory:", "file:")):
        return None
    return Path(unquote(match[1], errors="surrogateescape"))


MAX_EXPERIMENTS = 10_000
CORPUS_TAG, RECIPE_TAG, EXPERIMENT_TAG = "corpus_name", "recipe", "dvc_exp_name"  # the last: DVC's, not MLflow's
SWEEP_TAG = "sweep"  # of a run of a sweep; the value is the commit from which it began
SWEEP_OF_TAG = "sweep_of"  # of the run above them; the same value
CHANGED = "changed."  # with a parameter's name: the value that a later stage had, where the run keeps the first
COMMON_REASONS = {
    "Connection refused": "it refuses the connection: is the server up?",
    "Failed to resolve": "there is no such host",
    "database is locked": "the database is locked by another process",
    **dict.fromkeys(("Read timed out", "ConnectTimeout", "TimeoutError"), "it does not answer in time"),
}


class Store(NamedTuple):
    """Where runs go: a tracking URI, an experiment by name or id, and where artifacts go if no server decides that."""

    uri: str
    experiment: str
    artifact_root: str | None
    experiment_id: str | None = None
    is_by_corpus: bool = False  # an experiment `NAME/CORPUS` for each: losses of different texts cannot be compared

    def experiment_of(self, corpus: str) -> str:
        """The name of the experiment for models of that corpus, which may be unknown (empty)."""
        return f"{self.experiment}/{corpus}" if self.is_by_corpus and corpus else self.experiment


EXPERIMENT = "charlstm"  # of our runs, where nothing else is said
ARTIFACTS = "mlartifacts"  # beside the database of a checkout


def store_to_read(uri: str) -> Store:
    """A store of which only its URI is known. With the database of a checkout, the artifacts are those beside it."""
    file = sqlite_file(uri)
    root = file.absolute().parent / ARTIFACTS if file else None
    return Store(uri, EXPERIMENT, root.as_uri() if root and root.is_dir() else None, is_by_corpus=True)


def find_experiments(client: "MlflowClient", store: Store) -> dict[str, str]:
    """The experiments that the store's runs may be in, by name, and their ids; those of an older version among them."""
    if store.experiment_id is not None:
        return {store.experiment: store.experiment_id}
    found = {one.name: str(one.experiment_id) for one in client.search_experiments(max_results=MAX_EXPERIMENTS)}
    names = [name for name in found if store.is_by_corpus and name.startswith(f"{store.experiment}/")]
    return {name: found[name] for name in (store.experiment, *names) if name in found}


def find_or_create_experiment(client: "MlflowClient", store: Store, corpus: str) -> str:
    """The id of the experiment for models of that corpus."""
    from mlflow.exceptions import MlflowException

    if store.experiment_id is not None:
        return store.experiment_id
    name = store.experiment_of(corpus)
    if (known := find_experiments(client, store).get(name)) is not None:
        return known
    kind = {"mlflow.experimentKind": "custom_model_development"}  # the UI shows loss curves, not model traces
    try:
        return str(client.create_experiment(name, store.artifact_root, kind))
    except MlflowException:  # another process may have made it in between
        if (known := find_experiments(client, store).get(name)) is not None:
            return known
        raise


def connect(store: Store) -> "MlflowClient":
    """A client that says little of its own, and no password."""
    from mlflow import MlflowClient
    from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR

    if not MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.is_set():
        MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    for noisy in ("mlflow", "alembic"):  # both announce every table of a fresh database
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # a traceback of what is raised anyway
    logging.getLogger("mlflow.system_metrics").setLevel(logging.ERROR)  # what it lacks is no news
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it announces every try
    for source in (logging.getLogger("urllib3.connectionpool"), *logging.getLogger("mlflow").handlers):
        source.addFilter(hide_credentials)
    return MlflowClient(store.uri)


def describe(error: Exception, store: Store) -> str:
    """What went wrong, in one line, in a few words where it is a common thing; without what a URI has of secrets."""
    is_ours = isinstance(error, TrackingError)
    text = str(error) if is_ours else f"{type(error).__name__}: {error}"
    common = (reason for words, reason in COMMON_REASONS.items() if words in text)
    reason = next(common, without_credentials(text, store.uri))
    where = "MLflow" if is_ours else f"MLflow at {without_credentials(store.uri)}"
    return textwrap.shorten(f"{where}: {reason}", 300, placeholder=" ...")


def check_exists(store: Store) -> None:
    """Check that a database in a file exists: MLflow would make it.

    Raises:
        TrackingError: there is none.
    """
    if (database := sqlite_file(store.uri)) and not database.is_file():
        raise TrackingError(
            f"{database}: there is no such MLflow database: no run was made here, `make repro` makes one; if your "
            f"runs are elsewhere, MLFLOW_TRACKING_URI says where"
        )


def find_run(client: "MlflowClient", store: Store, tag: str, value: str) -> "Run | None":
    """The newest run with that tag, if any."""
    ids, wanted = list(find_experiments(client, store).values()), f"tags.{tag} = '{value}'"
    runs = client.search_runs(ids, wanted, max_results=1, order_by=["start_time DESC"]) if ids else []
    return runs[0] if runs else None


def create_run(client: "MlflowClient", experiment_id: str, tags: Mapping[str, str], start_ms: int) -> str:
    """A new run's id.

    Raises:
        TrackingError: what answers is no MLflow server.
    """
    if not (run_id := client.create_run(experiment_id, start_time=start_ms, tags=shown(tags)).info.run_id):
        raise TrackingError("it answers without the id of the new run: expected an MLflow server")
    return str(run_id)


def find_or_create_sweep(client: "MlflowClient", experiment_id: str, baseline: str, start_ms: int) -> str:
    """The id of the run above all experiments of DVC that began from the commit `baseline` outside of the workspace."""
    wanted, oldest_first = f"tags.{SWEEP_OF_TAG} = '{baseline}'", ["start_time ASC", "attributes.run_id ASC"]
    if not client.search_runs([experiment_id], wanted, max_results=1):
        about = f"DVC experiments that began from the commit {baseline}. See `charlstm sweep`."
        shown = {"mlflow.runName": f"sweep from {baseline[:8]}", "mlflow.note.content": about}
        client.set_terminated(create_run(client, experiment_id, {SWEEP_OF_TAG: baseline, **shown}, start_ms))
    (oldest,) = client.search_runs([experiment_id], wanted, max_results=1, order_by=oldest_first)
    return str(oldest.info.run_id)  # if another process made one at the same moment, both take the same


def start_monitor(store: Store, run_id: str) -> Any:  # noqa: ANN401  # mlflow's SystemMetricsMonitor
    """Have MLflow send how busy this machine is, from where the run has it on."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=store.uri)
    monitor.start()
    return monitor


def open_artifacts(store: Store, uri: str) -> Any:  # noqa: ANN401  # mlflow's ArtifactRepository
    """The artifacts at the address that a run or a model has for them, wherever they lie.

    Raises:
        TrackingError: the address is empty, which MLflow would take for the current folder.
    """
    if not uri:
        raise TrackingError(f"{without_credentials(store.uri)} names no place of the files: expected an MLflow server")
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(uri, tracking_uri=store.uri)


def shown(values: Mapping[str, str | int | float]) -> dict[str, str]:
    """Values as texts, without the passwords of URLs."""
    # Of a name that is not UTF-8, Python makes characters that MLflow cannot take.
    return {name: without_credentials(str(value)).encode(errors="replace").decode() for name, value in values.items()}
