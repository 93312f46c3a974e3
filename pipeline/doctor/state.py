"""The folders that a run writes: the project, DVC's cache and `.charlstm`, and who else trains here now."""

import os
from collections.abc import Iterator
from pathlib import Path

from charlstm.storage.lock import holder_of
from pipeline.common.settings import faults
from pipeline.common.tracking_store import STATE_FOLDER, project_root
from pipeline.common.unfinished import CHECKOUT
from pipeline.doctor.finding import Finding, error


def check_settings() -> Iterator[Finding]:
    """The variables that a user may set."""
    yield from (error(str(fault)) for fault in faults())


def check() -> Iterator[Finding]:
    """The project's own folders."""
    yield from _folder("the project", Path.cwd())
    yield from _folder("the state of unfinished trainings", project_root() / STATE_FOLDER)
    if not any((folder / ".dvc").is_dir() for folder in (Path.cwd(), *Path.cwd().parents)):
        yield error(f"dvc: {Path.cwd()} is in no DVC project: `git init` and `dvc init` make it one")
    if (holder := holder_of(CHECKOUT)) is not None:
        yield error(f"a training in this checkout is under way already, {holder}: wait for it, or stop it")


def check_cache(folder: Path) -> Iterator[Finding]:
    """DVC's cache, as DVC names it."""
    yield from _folder("DVC's cache", folder)


def _folder(what: str, folder: Path) -> Iterator[Finding]:
    """It, or the nearest folder above it that exists, must be one that can be written."""
    nearest = next(one for one in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(one))
    if not nearest.is_dir():
        yield error(f"{what}: {folder}: expected a folder, found something else in its place: {nearest}; move it away")
    elif not os.access(nearest, os.W_OK | os.X_OK):
        yield error(f"{what}: {folder}: no permission to write in {nearest}")
