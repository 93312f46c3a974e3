"""The MLflow store of the project."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from charlstm.errors import TrackingError
from charlstm.files.urls import without_credentials
from charlstm.tracking.client import EXPERIMENT, Store, sqlite_file, sqlite_uri
from pipeline.run.project import ARTIFACTS, DATABASE, project_root

DATABASES = ("postgresql", "mysql", "mssql")  # databases that MLflow supports besides SQLite


def store() -> Store:
    """Return the MLflow store that the environment sets, or a database in the project's root.

    By default, each corpus has its own experiment.

    Raises:
        TrackingError: MLFLOW_TRACKING_URI is not an address.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    _check_address(uri)
    file = sqlite_file(uri) if uri else Path(DATABASE)
    # Put the database into the project itself: a temporary copy of the project is soon deleted.
    if file is not None and not file.is_absolute():
        file = project_root() / file
        uri = sqlite_uri(file)
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME")
    return Store(uri, experiment or EXPERIMENT, _artifacts_of(uri, file), not experiment)


def _check_address(uri: str) -> None:
    """Raise TrackingError if `uri` is not a valid address. The server may be down, though."""
    try:
        address = urlsplit(uri)
        if address.scheme in ("http", "https") and (not address.hostname or address.port == 0):
            raise ValueError
    except ValueError:
        # Hide the original error, whose message may quote a part of a password.
        raise TrackingError(
            "MLFLOW_TRACKING_URI: expected an address like http://127.0.0.1:5000 or "
            f"sqlite:///mlflow.db, got {without_credentials(uri)!r}"
        ) from None


def _artifacts_of(uri: str, file: Path | None) -> str | None:
    """Return the URI of the artifacts' folder, or None if the server or MLflow chooses it.

    Artifacts go next to a SQLite file. For other databases, they go into the project. By default,
    MLflow would use the current folder of its first caller, which may be a temporary folder of DVC.
    """
    if file is not None:
        return (file.resolve().parent / ARTIFACTS).as_uri()
    is_database = urlsplit(uri).scheme.partition("+")[0] in DATABASES
    return (project_root() / ARTIFACTS).as_uri() if is_database else None
