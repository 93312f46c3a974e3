"""Files that commands write: where they may be, and what they may replace."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from charlstm.errors import CharlstmError, ParamsError
from pipeline.run.project import (
    ARTIFACTS,
    DATABASE,
    LOCK,
    PARAMS,
    PIPELINE,
    STATE_FOLDER,
    declared_paths,
    find_root,
    from_here,
)

# What no command may replace, besides corpora and the outputs of stages.
OWN = (
    PIPELINE,
    PARAMS,
    LOCK,
    DATABASE,
    ARTIFACTS,
    STATE_FOLDER,
    ".dvc",
    ".git",
    "charlstm",
    "pipeline",
    "conf",
)
# Eager, so that the callback of --output knows it.
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace the file of --output.", is_eager=True)
]


def output_from_here(context: typer.Context, path: Path | None) -> Path | None:
    """Return the path of a file to write. For options, as their callback.

    A file of the default name may be replaced: it is this command's own. `--force` allows to replace others.
    """
    if path is None:
        return None
    (option,) = [one for one in context.command.params if one.name == "output"]
    is_own = context.params.get("is_forced") or path == option.default
    return checked_output(from_here(path), may_replace=bool(is_own))


def checked_output(path: Path, *, may_replace: bool = True) -> Path:
    """Return the path of a file to write; of a link, what it leads to, so that the link stays.

    Raises:
        CharlstmError: the file exists and may not be replaced; it is the project's own; it is a device, a socket or a
            FIFO, which a renamed file would replace; or DVC would remove it before a stage runs.
    """
    path = path.resolve() if path.is_symlink() else path
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CharlstmError(
            f"{path}: expected the name of a file to write, found a device, a socket or a FIFO"
        )
    root = find_root(path.resolve().parent)
    if root is not None:
        _check_not_own(path, root)
    if path.is_file() and not may_replace:
        raise CharlstmError(
            f"{path}: exists already: choose another name, or --force to replace it"
        )
    return path


def _check_not_own(path: Path, root: Path) -> None:
    folders: dict[str, str] = {}
    with suppress(ParamsError):  # the `dvc.yaml` of another kind of project
        folders = declared_paths(root / PIPELINE)
    corpora = folders.pop("corpora", PIPELINE)
    for folder in folders.values():
        if path.resolve().is_relative_to((root / folder).resolve()):
            raise CharlstmError(
                f"{path}: DVC removes {folder} before its stage runs: write elsewhere"
            )
    if path.exists() and any(
        path.resolve().is_relative_to((root / name).resolve()) for name in (*OWN, corpora)
    ):
        raise CharlstmError(f"{path}: belongs to the project: choose another name")
