"""The project around the current folder: its root, what the environment sets in it, and where its state and runs go.

A project is found as git finds a repository, and commands run in its root. Paths in arguments are relative to the
folder in which the user is (`from_here`). A variable of the environment changes what is learned no more than rounding.
"""

import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from charlstm.errors import ParamsError, TrackingError
from charlstm.files.documents import load_yaml
from charlstm.files.sqlite_uri import sqlite_file, sqlite_uri
from charlstm.files.urls import without_credentials
from charlstm.tracking.client import EXPERIMENT, Store

PIPELINE, PARAMS, LOCK = Path("dvc.yaml"), Path("params.yaml"), Path("dvc.lock")
Value = TypeVar("Value", bound=Path | str | list[str] | None)

# The user's folder, if it is another one than the project's root.
_called_in: ContextVar[Path | None] = ContextVar("_called_in", default=None)

DEFAULT_SECONDS = {
    "CHARLSTM_CHECKPOINT_SECONDS": 30.0,  # from one checkpoint to the next
    "CHARLSTM_TIMEOUT_SECONDS": 60.0,  # a process that says nothing for so long is lost
    "CHARLSTM_TRACKING_SECONDS": 14.0,  # at the end of a stage, without any sign of MLflow
    "CHARLSTM_CHECKPOINT_MIRROR_SECONDS": 20.0,  # for an answer at the start, and in all at the end
}
# Less is no time to work in; more is a typo, and more than the clocks of gloo and of threads can count.
MIN_SECONDS, MAX_SECONDS = 0.0001, 365 * 24 * 3600
CHECKPOINT_MIRROR = "CHARLSTM_CHECKPOINT_MIRROR"  # a URL: see `pipeline.checkpoint_mirror`
THREADS, MAX_THREADS = (
    "OMP_NUM_THREADS",
    4096,
)  # OpenMP's own name; it may have a list, which torch has no use for
DATABASES = ("postgresql", "mysql", "mssql")  # that MLflow knows besides SQLite
STATE_FOLDER = Path(".charlstm")
CHECKOUT = STATE_FOLDER / "checkout"  # locked by the training in this checkout
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"  # next to the database
# Used where the user's environment does not say otherwise: no usage statistics, and a dead server is soon given up.
MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the next call repeats it; a repeated request may make a second run
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def find_root(folder: Path) -> Path | None:
    """The root of the project that `folder` is in; None if there is none."""
    return next((path for path in (folder, *folder.parents) if (path / PIPELINE).is_file()), None)


@contextmanager
def at_root(*, is_needed: bool) -> Iterator[None]:
    """Work in the root of the project around the current folder; outside of a project, in the current folder.

    Raises:
        ParamsError: there is no project, and one is needed.
    """
    here = Path.cwd()
    root = find_root(here)
    if root is None and is_needed:
        raise ParamsError(
            f"{here}: expected a project, found no {PIPELINE} here or above; go to a checkout"
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
    """A path that the user typed, or a name that is one if something is there. For options, as their callback."""
    called_in = _called_in.get()
    if called_in is None or value is None:
        return value
    if isinstance(value, list):
        return [from_here(name) for name in value]  # type: ignore[return-value]  # a list, too
    if isinstance(value, Path):
        return value if str(value) == "-" else called_in / value  # `-`: standard input
    is_there = os.path.lexists(
        called_in / value
    )  # a name that is no path stays as it is, e.g. a run's
    return path_from_here(value) if is_there else value  # type: ignore[return-value]


def path_from_here(name: str) -> str:
    """A path that the user typed, also where nothing is: a file of that name in the root is not meant."""
    called_in, root = _called_in.get(), Path.cwd()
    if called_in is None:
        return name
    path = Path(os.path.abspath(called_in / name))  # noqa: PTH100  # without `..`, and links as they are
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def declared_paths(path: Path = PIPELINE) -> dict[str, Any]:
    """The entry `paths` of `vars` in a `dvc.yaml`; a ParamsError if it has none."""
    try:
        return dict(next(entry["paths"] for entry in load_yaml(path)["vars"] if "paths" in entry))
    except (KeyError, TypeError, ValueError, StopIteration):
        raise ParamsError(
            f"{path}: expected the stages' paths under `vars: - paths:`; run stages in the project's root"
        ) from None


def seconds(name: str) -> float:
    """The value of the variable `name`, or its default.

    Raises:
        ParamsError: it is no number in the range.
    """
    value = os.environ.get(name, "")
    try:
        number = float(value or DEFAULT_SECONDS[name])
        if not MIN_SECONDS <= number <= MAX_SECONDS:
            raise ValueError
    except ValueError:
        raise ParamsError(
            f"{name}: expected a number of seconds from {MIN_SECONDS} to {MAX_SECONDS:,}, got {value[:60]!r}"
        ) from None
    return number


def rank() -> int:
    """The number of this process among those of a training, as launchers say it."""
    return int(os.environ.get("RANK") or 0)


def setting_faults() -> Iterator[ParamsError]:
    """Each variable with a value out of its range."""
    url = os.environ.get(CHECKPOINT_MIRROR, "")
    if url and "://" not in url and not Path(url).is_absolute():
        yield ParamsError(
            f"{CHECKPOINT_MIRROR}: expected a URL like s3://bucket/prefix or an absolute path, got {url[:60]!r}"
        )
    for name in DEFAULT_SECONDS:
        try:
            seconds(name)
        except ParamsError as fault:
            yield fault
    value = os.environ.get(THREADS, "1")
    if not (value.isdecimal() and len(value) < 10 and 1 <= int(value) <= MAX_THREADS):
        yield ParamsError(
            f"{THREADS}: expected a number of threads from 1 to {MAX_THREADS}, got {value[:60]!r}"
        )


def check_settings() -> None:
    """Check all variables, as every command does before it works.

    Raises:
        ParamsError: of the first variable with a wrong value.
    """
    for fault in setting_faults():
        raise fault


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
        if (
            file := sqlite_file(uri)
        ) is not None and not file.is_absolute():  # a temporary copy is gone soon
            uri = sqlite_uri(file := project_root() / file)
        return Store(uri, experiment, _artifacts_of(uri, file), is_by_corpus)
    file = project_root() / DATABASE
    return Store(sqlite_uri(file), experiment, _artifacts_of("", file), is_by_corpus)


def _artifacts_of(uri: str, file: Path | None) -> str | None:
    """Where artifacts go: next to a database in a file; else in this project, unless a server or MLflow says where.

    If nothing is set, MLflow takes the current folder of its first caller, which may be a temporary one of DVC.
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
            raise ValueError
    except ValueError:  # whose message may quote a piece of a password
        raise TrackingError(
            f"MLFLOW_TRACKING_URI: expected an address like http://127.0.0.1:5000 or sqlite:///mlflow.db, got "
            f"{without_credentials(uri)!r}"
        ) from None
