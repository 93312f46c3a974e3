"""The project around the current folder: its root, and the paths of its own files.

Like git, commands find the project in a parent folder and run in its root.
"""

import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from charlstm.errors import ParamsError
from charlstm.files.documents import load_yaml

PIPELINE = Path("dvc.yaml")
PARAMS = Path("params.yaml")
LOCK = Path("dvc.lock")
STATE_FOLDER = Path(".charlstm")
CHECKOUT = STATE_FOLDER / "checkout"  # locked during training in this checkout
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"  # next to the database
Value = TypeVar("Value", bound=Path | str | list[str] | None)


def find_root(folder: Path) -> Path | None:
    """Return the root of the project that contains `folder`. Return None outside a project."""
    return next((path for path in (folder, *folder.parents) if (path / PIPELINE).is_file()), None)


@contextmanager
def at_root(*, required: bool) -> Iterator[None]:
    """Work in the root of the current project. Outside a project, stay in the current folder.

    Raises:
        ParamsError: there is no project, although one is required.
    """
    here = Path.cwd()
    root = find_root(here)
    if root is None and required:
        raise ParamsError(
            f"{here}: there is no {PIPELINE} here or in a parent folder; change to a project's "
            "folder"
        )
    with chdir(root or here):
        yield


def from_here(value: Value) -> Value:
    """Make an option's path absolute, unless the user is already in the project's root.

    Typer calls this function for options, before the command changes to the root. A string counts
    as a path only if it exists. Other strings may be names of runs or models.
    """
    here = Path.cwd()
    if value is None or find_root(here) in (here, None):
        return value
    if isinstance(value, list):
        return [from_here(name) for name in value]  # type: ignore[return-value]  # a list, too
    is_path = os.path.lexists(value) if isinstance(value, str) else str(value) != "-"  # stdin
    # Keep symbolic links, which `Path.resolve` would follow.
    return type(value)(here / value) if is_path else value


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


def project_root() -> Path:
    """Return the main working tree's root, even in `dvc exp run --temp` or a queued experiment."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def state_root() -> Path:
    """Return the folder of the project's state: unfinished trainings, locks and unsent runs."""
    return project_root() / STATE_FOLDER
