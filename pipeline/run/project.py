"""The project around the current folder: its root, its settings, and the paths of its state.

Like git, commands find the project in a parent folder and run in its root. Paths in arguments are
relative to the user's folder (`from_here`). Settings are environment variables. They change results
by no more than rounding.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from charlstm.errors import ParamsError, TrackingError
from charlstm.files.documents import load_yaml
from charlstm.files.urls import without_credentials
from charlstm.tracking.client import EXPERIMENT, Store, sqlite_file, sqlite_uri

PIPELINE = Path("dvc.yaml")
PARAMS = Path("params.yaml")
LOCK = Path("dvc.lock")
STATE_FOLDER = Path(".charlstm")
CHECKOUT = STATE_FOLDER / "checkout"  # locked while a training runs in this checkout
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"  # next to the database
Value = TypeVar("Value", bound=Path | str | list[str] | None)

# The folder from which the user ran the command, if it is not the project's root.
_called_in: ContextVar[Path | None] = ContextVar("_called_in", default=None)

DEFAULT_SECONDS = {
    # Time from one checkpoint to the next.
    "CHARLSTM_CHECKPOINT_SECONDS": 30.0,
    # Time after which a process that does not answer counts as lost.
    "CHARLSTM_TIMEOUT_SECONDS": 60.0,
    # How long a finished stage waits for an MLflow server that does not answer.
    "CHARLSTM_TRACKING_SECONDS": 14.0,
    # The mirror's time limit: for each answer when training starts, in total when training ends.
    "CHARLSTM_CHECKPOINT_MIRROR_SECONDS": 20.0,
}
# Linux is tested. macOS has everything that this code needs, but is untested.
SUPPORTED = ("linux", "darwin")
# A value above MAX_SECONDS would overflow timeouts of gloo and threads, and is probably a typo.
MIN_SECONDS = 0.0001
MAX_SECONDS = 365 * 24 * 3600
CHECKPOINT_MIRROR = "CHARLSTM_CHECKPOINT_MIRROR"  # holds a URL: see `checkpoint_mirror.py`
# Defaults for MLflow: no telemetry, and short timeouts. The user's environment has priority.
MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # Forbid retries by MLflow, which could create a second run. Our next call tries again.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
DATABASES = ("postgresql", "mysql", "mssql")  # databases that MLflow supports besides SQLite


def find_root(folder: Path) -> Path | None:
    """Return the root of the project that contains `folder`. Return None outside a project."""
    return next((path for path in (folder, *folder.parents) if (path / PIPELINE).is_file()), None)


@contextmanager
def at_root(*, is_needed: bool) -> Iterator[None]:
    """Work in the root of the current project. Outside a project, stay in the current folder.

    Raises:
        ParamsError: there is no project, although one is needed.
    """
    here = Path.cwd()
    root = find_root(here)
    if root is None and is_needed:
        raise ParamsError(
            f"{here}: expected a folder in a project, found no {PIPELINE} here or in a parent "
            "folder; change to a project's folder"
        )
    if root is None or root == here:
        yield
        return
    token = _called_in.set(here)
    try:
        with chdir(root):
            yield
    finally:
        _called_in.reset(token)


def from_here(value: Value) -> Value:
    """Convert an option's path from the user's folder, so that it is valid in the project's root.

    A string counts as a path only if it exists in the user's folder. Other strings may be the names
    of runs or models, and are returned unchanged. Options use this function as their callback.
    """
    called_in = _called_in.get()
    if called_in is None or value is None:
        return value
    if isinstance(value, list):
        return [from_here(name) for name in value]  # type: ignore[return-value]  # a list, too
    if isinstance(value, Path):
        return value if str(value) == "-" else called_in / value  # `-`: standard input
    is_path = os.path.lexists(called_in / value)
    return path_from_here(value) if is_path else value  # type: ignore[return-value]


def path_from_here(name: str) -> str:
    """Make a path relative to the project's root. The user typed it, and it need not exist."""
    called_in = _called_in.get()
    if called_in is None:
        return name
    root = Path.cwd()
    # Remove `..`, but keep symbolic links, which `Path.resolve` would replace.
    path = Path(os.path.abspath(called_in / name))  # noqa: PTH100
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def declared_paths(path: Path = PIPELINE) -> dict[str, Any]:
    """Return the `paths` entry under `vars` in a `dvc.yaml`.

    Raises:
        ParamsError: there is no such entry.
    """
    try:
        return dict(next(entry["paths"] for entry in load_yaml(path)["vars"] if "paths" in entry))
    except (KeyError, TypeError, ValueError, StopIteration):
        raise ParamsError(
            f"{path}: expected the stages' paths under `vars: - paths:`, found none; run stages in "
            "the project's root"
        ) from None


def rank() -> int:
    """Return this process's rank in a distributed training, as set by the launcher, or 0."""
    return int(os.environ.get("RANK") or 0)


def local_rank() -> int:
    """Return this process's rank among the processes of this machine, or 0."""
    return int(os.environ.get("LOCAL_RANK") or 0)


def seconds(name: str) -> float:
    """Return the seconds that the environment variable `name` sets, or the default.

    Raises:
        ParamsError: the value is not a number in the allowed range.
    """
    value = os.environ.get(name, "")
    try:
        number = float(value or DEFAULT_SECONDS[name])
        if not MIN_SECONDS <= number <= MAX_SECONDS:
            raise ValueError
    except ValueError:
        raise ParamsError(
            f"{name}: expected a number of seconds from {MIN_SECONDS} to {MAX_SECONDS:,}, got "
            f"{value[:60]!r}"
        ) from None
    return number


def check_settings() -> None:
    """Check the system and all settings in environment variables, before a command's work.

    Raises:
        ParamsError: the system is not supported, or a setting has an invalid value.
    """
    if sys.platform not in SUPPORTED:
        raise ParamsError(
            f"expected Linux or macOS, found {sys.platform}, which lacks the signals and the "
            "folder syncs that keep results safe: run it in the Windows Subsystem for Linux (WSL), "
            "or in a container"
        )
    url = os.environ.get(CHECKPOINT_MIRROR, "")
    if url and "://" not in url and not Path(url).is_absolute():
        raise ParamsError(
            f"{CHECKPOINT_MIRROR}: expected a URL like s3://bucket/prefix or an absolute path, got "
            f"{url[:60]!r}"
        )
    for name in DEFAULT_SECONDS:
        seconds(name)


def project_root() -> Path:
    """Return the main working tree's root, even in `dvc exp run --temp` or a queued experiment."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def state_root() -> Path:
    """Return the folder of the project's state: unfinished trainings, locks and unsent runs."""
    return project_root() / STATE_FOLDER


def store() -> Store:
    """Return the MLflow store that the environment sets, or a database in the project's root.

    By default, each corpus has its own experiment.

    Raises:
        TrackingError: MLFLOW_TRACKING_URI is not an address.
    """
    for name, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(name, value)
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
