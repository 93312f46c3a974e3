"""Where an unfinished training lies: `.charlstm/<fingerprint>` in the project's root, ignored by git, unknown to DVC.

The fingerprint is that of all inputs of the train stage that `dvc.yaml` declares (data and code) and of its parameters:
changed inputs never meet an old state. The root is that of the main checkout, also for `dvc exp run --temp`.

What a finished training leaves is the last checkpoint and the hash of its outputs. DVC stores outputs in its cache when
the stage has ended. So the cache tells why a finished training is started again:

- It lacks the outputs: DVC was killed in between, and the work must not be lost. The last checkpoint is restored, and
  the outputs are written again.
- It has them: `dvc repro --force`. The state is cleared, and training starts from its first step.
"""

import contextlib
import hashlib
import json
import logging
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import Interrupted, LockedError
from charlstm.files.atomic import sha256, write_text
from charlstm.files.lock import exclusive, holder_of
from charlstm.params import Params
from pipeline.dvc.paths import Paths, load_deps
from pipeline.dvc.record import cached
from pipeline.provenance.hashes import files_of, md5
from pipeline.stage.tracking_store import STATE_FOLDER, project_root

log = logging.getLogger("charlstm")

TRAINING_ID = "training-id"
FINISHED = "finished.json"  # has the MD5 of the output that names all others by their hashes
CHECKOUT = STATE_FOLDER / "checkout"  # locked by the training in this checkout
# Trainings of other inputs are kept while they are recent or few: a user may return to them.
NUM_OTHERS_KEPT = 4
FINGERPRINT = re.compile(r"[0-9a-f]{16}")  # the name of a folder
SECONDS_KEPT = 7 * 24 * 3600


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
        write_text(self.folder / FINISHED, json.dumps({"output_md5": md5(sums)}) + "\n")


@contextmanager
def start_or_resume(fingerprint: str, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Unfinished]:
    """The folder of the training of these inputs; no other process may use it, or train in this checkout, meanwhile.

    An experiment waits for another one that has the same training, until it `should_stop`.

    Raises:
        LockedError: one does.
        Interrupted: it was asked to stop while it waited.
    """
    root = project_root() / STATE_FOLDER
    folder = root / fingerprint
    is_copy = Path.cwd().resolve() != project_root()  # of a queue: several experiments may share a training
    has_waited = False

    def waits() -> bool:
        nonlocal has_waited
        if should_stop():
            raise Interrupted("stopped as asked, while it waited for another experiment")
        if is_copy and not has_waited:
            has_waited, holder = True, holder_of(folder) or "in another process"
            log.info("the same training is under way for another experiment, %s: waiting for it", holder)
        return is_copy

    with exclusive(CHECKOUT, "a training in this checkout"), exclusive(folder, "this training", waits):
        is_anew = not has_waited and _is_done(folder / FINISHED)  # what it waited for is what it wants
        if is_anew:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _remove_others(root, folder)
        folder.touch()  # used last
        if not (folder / TRAINING_ID).exists():
            write_text(folder / TRAINING_ID, uuid.uuid4().hex + "\n")
        yield Unfinished(folder, is_anew)


def fingerprint(params: Params, paths: Paths) -> str:
    """A hash of everything that decides what training makes."""
    inputs = {
        "params": [params.model.model_dump(), params.train.model_dump(), params.split.document_separator],
        "files": {
            str(file): sha256(file)
            for dep in load_deps(paths)
            for file in (files_of(dep) if dep.is_dir() else [dep])  # bytecode has the times of its source
        },
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def _is_done(finished: Path) -> bool:
    """Whether the training finished and DVC has its outputs."""
    try:
        return cached(json.loads(finished.read_text())["output_md5"]) is not None
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _remove_others(root: Path, mine: Path) -> None:
    """Other workers do the same at the same time: a folder may be gone, or in use again, at any moment.

    Finished and unfinished ones are counted apart: those under way are used all the time, and would be the last ones.
    """
    others = [folder for folder in root.iterdir() if FINGERPRINT.fullmatch(folder.name) and folder != mine]
    latest = sorted(others, key=_last_used, reverse=True)
    finished = [other for other in latest if (other / FINISHED).exists()]
    unfinished = [other for other in latest if other not in finished]
    for other in (*finished[NUM_OTHERS_KEPT:], *unfinished[NUM_OTHERS_KEPT:]):
        with contextlib.suppress(LockedError), exclusive(other, "that training"):
            is_finished = (other / FINISHED).exists()
            if is_finished or time.time() - _last_used(other) > SECONDS_KEPT:
                if not is_finished and other.exists():
                    log.warning("an unfinished training of other inputs, not used for a week, is removed: %s", other)
                shutil.rmtree(other, ignore_errors=True)


def _last_used(folder: Path) -> float:
    """The time of a folder's last use, in seconds since the epoch; 0 if it is gone."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return 0.0
