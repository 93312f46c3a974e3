"""The project around the current folder, found as git finds a repository. Commands run in its root, wherever called.

What a user types is meant where the user is: paths in arguments are taken from there (`from_here`).
"""

import os
import stat
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from charlstm.errors import CharlstmError, ParamsError
from charlstm.files.atomic import SPECIAL_FILES

PIPELINE, PARAMS, LOCK = Path("dvc.yaml"), Path("params.yaml"), Path("dvc.lock")
Value = TypeVar("Value", bound=Path | str | list[str] | None)

# The user's folder, if it is another one than the project's root.
_called_in: ContextVar[Path | None] = ContextVar("_called_in", default=None)


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
        raise ParamsError(f"{here}: expected a project, found no {PIPELINE} here or above; go to a checkout")
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
    is_there = os.path.lexists(called_in / value)  # a name that is no path stays as it is, e.g. a run's
    return path_from_here(value) if is_there else value  # type: ignore[return-value]


def path_from_here(name: str) -> str:
    """A path that the user typed, also where nothing is: a file of that name in the root is not meant."""
    called_in, root = _called_in.get(), Path.cwd()
    if called_in is None:
        return name
    path = Path(os.path.abspath(called_in / name))  # noqa: PTH100  # without `..`, and links as they are
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def output_from_here(path: Path | None) -> Path | None:
    """The path of a file to write. For options, as their callback."""
    return None if path is None else checked_output(from_here(path))


def checked_output(path: Path) -> Path:
    """The path of a file to write; of a link, what it leads to, so that it stays a link.

    Raises:
        CharlstmError: there is a device, a socket or a FIFO, which a file that is renamed over it would replace; or it
            is in an output folder of a stage, which DVC removes before the stage runs.
    """
    from pipeline.dvc.paths import declared_paths  # which imports this module

    path = path.resolve() if path.is_symlink() else path
    if path.exists() and (kind := SPECIAL_FILES.get(stat.filemode(path.stat().st_mode)[0])):
        raise CharlstmError(f"{path}: expected the name of a file to write, found a {kind}")
    root, folders = find_root(path.resolve().parent), dict[str, str]()
    if root is not None:
        with suppress(ParamsError):  # the pipeline of something else
            folders = declared_paths(root / PIPELINE)
    for name, folder in folders.items():
        if root and name != "corpora" and path.resolve().is_relative_to((root / folder).resolve()):
            raise CharlstmError(f"{path}: DVC removes {folder} before its stage runs: write elsewhere")
    return path
