"""Where MLflow runs go, and where what it has missed waits for it."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from charlstm.errors import TrackingError
from charlstm.files.urls import sqlite_file, sqlite_uri, without_credentials
from charlstm.tracking.client import EXPERIMENT, Store

DATABASES = ("postgresql", "mysql", "mssql")  # that MLflow knows beside SQLite
STATE_FOLDER = Path(".charlstm")
ARTIFACTS = "mlartifacts"  # beside the database
# Used where the user's environment does not say otherwise: no usage statistics, and a dead server is soon given up.
MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the next call repeats it; a repeated request may make a second run
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def project_root() -> Path:
    """The main working tree's, also in `dvc exp run --temp` and in a queue."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def state_root() -> Path:
    """The folder of the checkpoints, each with what is to be sent of its training, and of what else waits."""
    return project_root() / STATE_FOLDER


def store() -> Store:
    """MLflow's standard variables, else a database in the project's root, with an experiment for each corpus.

    Raises:
        TrackingError: MLFLOW_TRACKING_URI is no address.
    """
    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)
    named = os.environ.get("MLFLOW_EXPERIMENT_NAME")
    experiment, is_by_corpus = named or EXPERIMENT, not named
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        _check_address(uri)
        if (file := sqlite_file(uri)) is not None and not file.is_absolute():  # a temporary copy is gone soon
            uri = sqlite_uri(file := project_root() / file)
        return Store(uri, experiment, _artifacts_of(uri, file), is_by_corpus)
    file = project_root() / "mlflow.db"
    return Store(sqlite_uri(file), experiment, _artifacts_of("", file), is_by_corpus)


def _artifacts_of(uri: str, file: Path | None) -> str | None:
    """Where artifacts go: beside a database in a file; else in this project, unless a server or MLflow says where.

    Without a word, MLflow takes the current folder of whoever is first, which may be one of DVC that is gone soon.
    """
    if file is not None:
        return (file.resolve().parent / ARTIFACTS).as_uri()
    is_database = urlsplit(uri).scheme.partition("+")[0] in DATABASES
    return (project_root() / ARTIFACTS).as_uri() if is_database else None


def _check_address(uri: str) -> None:
    """A server that is down is no mistake; an address that can never be one is said before any work."""
    try:
        address = urlsplit(uri)
        if address.scheme in ("http", "https") and (not address.hostname or address.port == 0):
            raise ValueError("it names no server")
    except ValueError as error:
        shown = without_credentials(str(error), uri)
        raise TrackingError(
            f"MLFLOW_TRACKING_URI: expected an address like http://127.0.0.1:5000 or sqlite:///mlflow.db, got "
            f"{without_credentials(uri)!r}: {shown}"
        ) from None
