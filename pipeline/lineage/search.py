"""From a name to trainings: the runs that MLflow has of them, and the commits whose `dvc.lock` names their outputs."""

import logging
import re
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CharlstmError, NoStoreError, TrackingError
from charlstm.files.checksums import sha256
from charlstm.model.shape import WEIGHTS
from charlstm.tracking.client import EXPERIMENT_TAG, Reader, TrackedRun
from charlstm.tracking.registered_model import MODEL_TAG
from pipeline.lineage.git import commits_with, find_commit, lock_at
from pipeline.lineage.provenance import COMMIT, TRAIN_MD5
from pipeline.run.dvc import load_paths, md5
from pipeline.run.project import store
from pipeline.run.terminal import printable

log = logging.getLogger("charlstm")


class Match(NamedTuple):
    """A training: its run, the commit whose `dvc.lock` names its outputs, or both."""

    run: TrackedRun | None
    commit: str | None

    def commits(self) -> list[str]:
        """All commits and experiments whose `dvc.lock` names its outputs, the newest first."""
        train_md5 = self.run.tags.get(TRAIN_MD5) if self.run else None
        return [self.commit] if self.commit else commits_with(train_md5) if train_md5 else []


def find(name: str) -> tuple[Reader | None, list[Match]]:
    """The trainings that a run's, a file's or a revision's name stands for, at least one; and the reader of their runs.

    Files are found by their content. Without MLflow, git and DVC are asked alone.

    Raises:
        CharlstmError: there is none.
        TrackingError: the store no longer answers.
    """
    reader = None
    try:
        reader = Reader(store())
    except NoStoreError:  # as after `git pull` and `dvc pull`
        pass
    except TrackingError as error:
        log.warning("only git and DVC are asked: %s", error)
    path = Path(name).parent if Path(name).name == WEIGHTS else Path(name)
    hash_or_name = sha256(path / WEIGHTS) if (path / WEIGHTS).is_file() else name
    if reader and (runs := _runs_named(hash_or_name, reader)):
        return reader, [Match(run, None) for run in runs]
    commit = next(reversed(commits_with(md5(path))), None) if path.exists() else find_commit(name)
    if commit and (matches := _of_commit(commit, reader)):
        return reader, matches
    expected = "a run, a file or a revision, found none of that name that is of a training"
    raise CharlstmError(f"{printable(name)}: expected {expected}")


def _runs_named(name: str, reader: Reader) -> list[TrackedRun]:
    if re.fullmatch("[0-9a-f]{8,64}", name) and (runs := reader.by_hash(name, MODEL_TAG)):
        return runs
    if (
        not name.isprintable()
    ):  # e.g. a file's name that is not UTF-8, which MLflow cannot be asked for
        return []
    return reader.by_name(name) or (
        reader.by_tag(EXPERIMENT_TAG, name) if re.fullmatch(r"[\w.,=+-]+", name) else []
    )


def _of_commit(commit: str, reader: Reader | None) -> list[Match]:
    """The training that its `dvc.lock` names; without a lock, those that ran from it."""
    if (lock := lock_at(commit)) is None:
        return [Match(run, None) for run in reader.by_tag(COMMIT, commit)] if reader else []
    train_md5 = lock.train_md5(load_paths())
    runs = reader.by_tag(TRAIN_MD5, train_md5) if reader and train_md5 else []
    return [Match(run, commit) for run in runs] or [Match(None, commit)]
