"""Where an unfinished training lies: `.charlstm/<fingerprint>` in the project's root, ignored by git, unknown to DVC.

The fingerprint is that of all inputs of the train stage that `dvc.yaml` declares (data and code) and of its parameters:
changed inputs never meet an old state. The root is that of the main checkout, also for `dvc exp run --temp`.

What a finished training leaves is the last checkpoint and a note of its outcome. DVC records the outputs only after the
stage has ended. Two cases look alike from here, since DVC removes the outputs before it runs a stage:

- Killed in between, or the inputs were edited while it trained: there is no record, and the work must not be lost. The
  same inputs restore the last checkpoint and write the outputs again.
- Recorded, and wanted again (`dvc repro --force`): the state is cleared, and training starts from its first step.

What tells them apart is a record of this outcome anywhere in DVC: `dvc.lock` alone is not enough, since the next
training's record replaces it there, but the run cache keeps all. (A forced training of inputs that were recorded
before, killed in between, is taken for recorded. It trains again, which is what was asked for.)

A teacher has no such record, since DVC knows it as one folder: forced, it always restores its last checkpoint.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import LockedError
from charlstm.files.atomic import write_text
from charlstm.files.lock import exclusive
from charlstm.params import Params
from pipeline.dvc.paths import Paths, load_deps
from pipeline.dvc.record import Outcome, is_recorded, outcome
from pipeline.provenance.hashes import sha256
from pipeline.stage.tracking_store import STATE_FOLDER, kept_root, project_root, spool_root

log = logging.getLogger("charlstm")

FINISHED = "finished.json"
CHECKOUT = STATE_FOLDER / "checkout"  # locked by the training in this checkout
# Trainings of other inputs are kept while they are recent or few: a user may return to them.
NUM_OTHERS_KEPT = 4
SECONDS_KEPT = 7 * 24 * 3600


class Unfinished(NamedTuple):
    """What is kept of a training until DVC has its model."""

    folder: Path
    training_id: str  # the same at every start of this training, and of no other

    def finish(self, sums: Path, paths: Paths) -> None:
        """Note that all outputs are written; `sums` is the one that has the hashes of the weights and the tables."""
        made = outcome(sums, load_deps(Path("dvc.yaml"), "train", paths))
        write_text(self.folder / FINISHED, made.to_json() + "\n")


@contextmanager
def start_or_resume(fingerprint: str) -> Iterator[Unfinished]:
    """The folder of the training of these inputs; no other process may use it, or this checkout, meanwhile.

    Raises:
        LockedError: one does.
    """
    root = project_root() / STATE_FOLDER
    folder = root / fingerprint
    with exclusive(CHECKOUT, "a training in this checkout"), exclusive(folder, "this training"):
        folder.mkdir(parents=True, exist_ok=True)
        if _is_done(folder / FINISHED):  # so it is wanted again: `dvc repro --force`
            clear(folder)
        _remove_others(root, folder)
        folder.touch()  # used last
        yield Unfinished(folder, _training_id(folder / "training-id"))


def fingerprint(params: Params, paths: Paths) -> str:
    """A hash of everything that decides what training makes."""
    decisive: dict[str, object] = {
        "model": params.model.fingerprint_fields(),
        "train": params.train.fingerprint_fields(),
    }
    if params.split.document_separator is not None:
        decisive["split.document_separator"] = params.split.document_separator
    inputs = {
        "params": decisive,
        "files": {
            str(file): sha256(file)
            for dep in load_deps(Path("dvc.yaml"), "train", paths)
            for file in ([dep] if not dep.is_dir() else sorted(each for each in dep.rglob("*") if each.is_file()))
        },
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def _is_done(finished: Path) -> bool:
    """Whether the training finished and DVC has recorded it."""
    try:
        return is_recorded(Outcome.from_json(finished.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _training_id(path: Path) -> str:
    if not path.exists():
        write_text(path, uuid.uuid4().hex + "\n")
    return path.read_text(errors="replace").strip()


def _remove_others(root: Path, mine: Path) -> None:
    """Other workers do the same at the same time: a folder may be gone, or in use again, at any moment."""
    not_others = (mine, spool_root(), kept_root())
    others = [folder for folder in root.iterdir() if folder.is_dir() and folder not in not_others]
    for other in sorted(others, key=_last_used, reverse=True)[NUM_OTHERS_KEPT:]:
        with contextlib.suppress(LockedError), exclusive(other, "that training"):
            is_finished = (other / FINISHED).exists()
            if not is_finished and time.time() - _last_used(other) < SECONDS_KEPT:
                continue
            if not is_finished and other.exists():
                log.warning("an unfinished training of other inputs, not used for a week, is removed: %s", other)
            shutil.rmtree(other, ignore_errors=True)


def _last_used(folder: Path) -> float:
    """In seconds since the epoch; 0 if it is gone."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def clear(folder: Path) -> None:
    """Remove all of a folder."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
