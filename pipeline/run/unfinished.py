"""Where an unfinished training lies: `.charlstm/<fingerprint>` in the project's root, ignored by git, unknown to DVC.

The fingerprint is a hash of what `dvc.yaml` declares for stage train: changed inputs never meet an old state. The root
is that of the main checkout, also for `dvc exp run --temp`.

A finished training that is started again is wanted anew (`dvc repro --force`) if DVC's cache has its outputs. Else DVC
was killed before it stored them: the last checkpoint is restored, and they are written again.
"""

import hashlib
import json
import logging
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import LockedError
from charlstm.files.atomic import write_text
from charlstm.files.lock import exclusive
from charlstm.params import Params
from charlstm.tracking.training_files import ORIGIN, PUBLISHED
from pipeline.run.dvc import cached, inputs_of, md5
from pipeline.run.project import CHECKOUT, STATE_FOLDER, project_root

log = logging.getLogger("charlstm")

TRAINING_ID = "training-id"
FINISHED = "finished"  # holds the MD5 of the output that names all others by their hashes
FINGERPRINT = re.compile(r"[0-9a-f]{16}")  # the name of a training's folder


def fingerprint(params: Params) -> str:
    """Return a hash of the parameters, data and code that `dvc.yaml` declares for stage train."""
    return hashlib.sha256(
        json.dumps(inputs_of("train", params), sort_keys=True).encode()
    ).hexdigest()[:16]


def folder_of(fingerprint: str) -> Path:
    """Return the folder of a training."""
    return project_root() / STATE_FOLDER / fingerprint


class Unfinished(NamedTuple):
    """The state that is kept of a training until DVC has its model."""

    folder: Path
    is_anew: bool  # it was finished before, and is wanted again: `dvc repro --force`

    @property
    def training_id(self) -> str:
        """The same at every start of this training, and of no other."""
        return (self.folder / TRAINING_ID).read_text(errors="replace").strip()

    def finish(self, sums: Path) -> None:
        """Note that all outputs are written; `sums` is the one that has the hashes of the weights and the tables."""
        write_text(self.folder / FINISHED, f"{md5(sums)}\n")


@contextmanager
def start_or_resume(fingerprint: str) -> Iterator[Unfinished]:
    """Hold the folder of the training of these inputs.

    Raises:
        LockedError: this training is under way, or another one in this checkout.
    """
    folder = folder_of(fingerprint)
    with exclusive(CHECKOUT, "a training in this checkout"), exclusive(folder, "this training"):
        is_anew = _is_recorded(folder)
        if is_anew:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        remove_others(folder.parent, folder)
        if not (folder / TRAINING_ID).exists():
            write_text(folder / TRAINING_ID, uuid.uuid4().hex + "\n")
        yield Unfinished(folder, is_anew)


def _is_recorded(folder: Path) -> bool:
    """Whether the training finished and DVC has its outputs."""
    try:
        return cached((folder / FINISHED).read_text(errors="replace").strip()) is not None
    except FileNotFoundError:
        return False


def _is_published(folder: Path) -> bool:
    return (folder / PUBLISHED).exists() or not (folder / ORIGIN).exists()


def remove_others(root: Path, mine: Path | None = None, *, is_all: bool = False) -> list[Path]:
    """Remove trainings that nobody runs and whose outputs DVC has, or all that nobody runs. Return their folders.

    A training whose run has not been sent to MLflow stays, unless all are removed.
    """
    removed = []
    for other in root.iterdir() if root.exists() else ():
        if FINGERPRINT.fullmatch(other.name) and other != mine:
            with suppress(LockedError, FileNotFoundError), exclusive(other, "that training"):
                if is_all or (_is_recorded(other) and _is_published(other)):
                    shutil.rmtree(other, ignore_errors=True)
                    removed.append(other)
    return removed
