"""Paths of files that commands write."""

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

# The project's own files and folders, except the stages' outputs, which `dvc.yaml` declares.
OWN = (
    PIPELINE,
    PARAMS,
    LOCK,
    DATABASE,
    ARTIFACTS,
    STATE_FOLDER,
    ".dvc",
    ".git",
    ".venv",
    "charlstm",
    "pipeline",
    "conf",
)
# Eager, so that typer parses --force before it calls the callback of --output.
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace the output file if it exists.", is_eager=True)
]


def output_from_here(
    context: typer.Context, option: typer.CallbackParam, path: Path | None
) -> Path | None:
    """Return the checked output path. Commands use this function as the callback of --output.

    A command may replace the file at its default path. Any other existing file needs `--force`.
    """
    if path is None:
        return None
    may_replace = context.params.get("is_forced") or path == option.default
    return checked_output(from_here(path), may_replace=bool(may_replace))


def checked_output(path: Path, *, may_replace: bool = True) -> Path:
    """Return the path to write to. A symbolic link is replaced, never its target.

    Raises:
        CharlstmError: the path belongs to the project; it is a folder or a device; or it is a file
            that may not be replaced.
    """
    place = path.parent.resolve() / path.name
    if root := find_root(place.parent):
        own: list[str | Path] = [*OWN]
        with suppress(ParamsError):  # the `dvc.yaml` may belong to another kind of project
            own += declared_paths(root / PIPELINE).values()
        for name in own:
            if place.is_relative_to((root / name).resolve()):
                raise CharlstmError(
                    f"{path}: {name} belongs to the project: choose another output path"
                )
    if (path.exists() or path.is_symlink()) and not (may_replace and path.is_file()):
        raise CharlstmError(
            f"{path} already exists: choose another name, or pass --force to overwrite a file"
        )
    return path
