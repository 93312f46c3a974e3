"""The search for trainings by name: in MLflow's runs, and in the commits that record outputs."""

import logging
import re
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CharlstmError, NoStoreError, TrackingError
from charlstm.files.checksums import SUMS, sha256
from charlstm.model.shape import WEIGHTS
from charlstm.tracking.client import EXPERIMENT_TAG, Reader, TrackedRun
from charlstm.tracking.registered_model import MODEL_TAG
from pipeline.lineage.git import commits_with, find_commit, lock_at
from pipeline.lineage.provenance import COMMIT, TRAIN_MD5
from pipeline.run.dvc import load_paths, md5
from pipeline.run.store import store
from pipeline.run.terminal import printable

log = logging.getLogger("charlstm")


class Match(NamedTuple):
    """A training that was found by its run, by a commit whose `dvc.lock` records it, or both."""

    run: TrackedRun | None
    commit: str | None

    def commits(self) -> list[str]:
        """Return all commits and experiments that record the training's outputs, newest first."""
        if self.commit:
            return [self.commit]
        train_md5 = self.run.tags.get(TRAIN_MD5) if self.run else None
        return commits_with(train_md5) if train_md5 else []


def find(name: str) -> tuple[Reader | None, list[Match]]:
    """Return the reader of MLflow's runs, and the trainings (at least one) with this name.

    Without MLflow, search only git and DVC, and return None as the reader.

    Args:
        name: the name of a run, the path of an output (found by its content), or a revision.

    Raises:
        CharlstmError: no training has this name.
        TrackingError: the store stopped answering.
    """
    reader = None
    try:
        reader = Reader(store())
    except NoStoreError:
        pass  # a new clone has no store, even after `git pull` and `dvc pull`
    except TrackingError as error:
        log.warning("only git and DVC are searched: %s", error)

    path = Path(name).parent if Path(name).name == WEIGHTS else Path(name)
    hash_or_name = sha256(path / WEIGHTS) if (path / WEIGHTS).is_file() else name
    if reader and (runs := _runs_named(hash_or_name, reader)):
        return reader, [Match(run, None) for run in runs]
    commit = next(reversed(commits_with(md5(path))), None) if path.exists() else find_commit(name)
    if commit and (matches := _of_commit(commit, reader)):
        return reader, matches
    raise CharlstmError(
        f"{printable(name)}: no MLflow run, output file or git revision of a training matches; "
        "list all trainings with `charlstm trace`"
    )


def _runs_named(name: str, reader: Reader) -> list[TrackedRun]:
    if re.fullmatch("[0-9a-f]{8,64}", name) and (runs := reader.by_hash(name, MODEL_TAG)):
        return runs
    # MLflow cannot search for quotes, nor for a file name that is not valid UTF-8.
    if '"' in name or "'" in name or not name.isprintable():
        return []
    return reader.by_name(name) or reader.by_tag(EXPERIMENT_TAG, name)


def _of_commit(commit: str, reader: Reader | None) -> list[Match]:
    """Return the training in the commit's `dvc.lock`, or the commit's runs if there is no lock."""
    lock = lock_at(commit)
    if not lock.stages:
        return [Match(run, None) for run in reader.by_tag(COMMIT, commit)] if reader else []
    train_md5 = lock.output(load_paths().train / SUMS)
    runs = reader.by_tag(TRAIN_MD5, train_md5) if reader and train_md5 else []
    return [Match(run, commit) for run in runs] or [Match(None, commit)]
