"""The state of an unfinished training, in `.charlstm/<fingerprint>` of the project's root.

git and DVC ignore this folder. The fingerprint is a hash of everything that `dvc.yaml` declares for
stage train, so a training with changed inputs never resumes from an old state. The root is that of
the main checkout, even in `dvc exp run --temp`.

A finished training may be started again for two reasons. If DVC's cache has its outputs, the user
wants to train again (`dvc repro --force`). If not, DVC was killed before it stored them. Then the
last checkpoint is restored, and the outputs are written again.
"""

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
from charlstm.tracking.sync import ORIGIN, PUBLISHED
from pipeline.run.dvc import cached, md5
from pipeline.run.project import CHECKOUT, state_root

TRAINING_ID = "training-id"
# This file holds the MD5 hash of the checksum file that covers all other outputs.
FINISHED = "finished"
FINGERPRINT = re.compile(r"[0-9a-f]{16}")


def folder_of(fingerprint: str) -> Path:
    """Return the folder that holds the state of the training run with this fingerprint."""
    return state_root() / fingerprint


class Unfinished(NamedTuple):
    """The state of a training until DVC has recorded its model."""

    folder: Path
    is_repeated: bool  # True if the training had finished and `dvc repro --force` repeats it

    @property
    def training_id(self) -> str:
        """The unique ID of this training, which stays the same across restarts."""
        return (self.folder / TRAINING_ID).read_text().strip()

    def finish(self, sums: Path) -> None:
        """Mark the training as finished. `sums` has the checksums of its weights and tables."""
        write_text(self.folder / FINISHED, f"{md5(sums)}\n")


@contextmanager
def start_or_resume(fingerprint: str) -> Iterator[Unfinished]:
    """Lock the folder of a training run, creating it if it is missing. Yield the run's state.

    Raises:
        LockedError: this training, or another one in this checkout, is running.
    """
    folder = folder_of(fingerprint)
    with exclusive(CHECKOUT, "a training in this checkout"), exclusive(folder, "this training"):
        is_repeated = _is_recorded(folder)
        if is_repeated:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        remove_others(folder.parent, folder)
        if not (folder / TRAINING_ID).exists():
            write_text(folder / TRAINING_ID, uuid.uuid4().hex + "\n")
        yield Unfinished(folder, is_repeated)


def remove_others(root: Path, mine: Path | None = None, *, is_all: bool = False) -> list[Path]:
    """Remove folders of stopped trainings whose outputs DVC has. Return the folders' paths.

    Keep a training whose run is not in MLflow yet. With `is_all`, remove all trainings that are not
    running.
    """
    removed = []
    for other in root.iterdir() if root.exists() else ():
        if FINGERPRINT.fullmatch(other.name) and other != mine:
            with suppress(LockedError, FileNotFoundError), exclusive(other, "that training"):
                is_published = (other / PUBLISHED).exists() or not (other / ORIGIN).exists()
                if is_all or (is_published and _is_recorded(other)):
                    shutil.rmtree(other, ignore_errors=True)
                    removed.append(other)
    return removed


def _is_recorded(folder: Path) -> bool:
    """Return True if the training is finished and DVC's cache has its outputs."""
    try:
        return cached((folder / FINISHED).read_text(errors="replace").strip()) is not None
    except FileNotFoundError:
        return False
