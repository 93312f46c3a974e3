"""Finds the trainings that belong to what a user names.

A name is tried as a run, then as a file, then as a revision. A file is found by its content, wherever it lies now.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import CharlstmError, TrackingError
from charlstm.files.atomic import sha256
from charlstm.model.shape import WEIGHTS
from charlstm.tracking.client import EXPERIMENT_TAG
from charlstm.tracking.reader import Reader, TrackedRun
from charlstm.tracking.registered_model import MODEL_TAG
from pipeline.dvc.paths import Paths
from pipeline.dvc.record import md5
from pipeline.lineage.document import folders_with, read_files
from pipeline.lineage.revisions import commits_with, find_commit, lock_at
from pipeline.provenance.git import check_git
from pipeline.provenance.provenance import COMMIT, TRAIN_MD5
from pipeline.stage.terminal import printable
from pipeline.stage.tracking_store import store

MIN_ID_PREFIX = 8
MAX_FILES = 2000
NUM_THREADS = 8  # a server answers several at once


class Match(NamedTuple):
    """A run or a commit, and what ties it to what was asked for."""

    run: TrackedRun | None
    commit: str | None
    found_by: str


def of_outputs(matches: Sequence[Match]) -> list[Match]:
    """Of a revision's matches, those of the outputs that its `dvc.lock` names, if it has one; else all.

    What else ran from a commit, as experiments do, is another model.
    """
    return [match for match in matches if match.commit] or list(matches)


def open_reader() -> tuple[Reader | None, list[str]]:
    """The runs of MLflow; or None, and why: git and DVC know much without it."""
    try:
        return Reader(store()), []
    except TrackingError as error:
        return None, [str(error)]


def find(
    name: str, kind: str | None, reader: Reader | None, paths: Paths, notes: Sequence[str] = ()
) -> tuple[str, list[Match]]:
    """The kind of `name` (run, file or rev), and all that it belongs to. `notes` say why there is no reader.

    Raises:
        CharlstmError: nothing has that name, or the only thing that has it belongs to no training.
        TrackingError: the store does not answer any more.
    """
    if kind in (None, "run") and reader and (runs := _find_runs(name, reader)):
        return "run", [Match(run, None, "its name or id") for run in runs]
    if kind in (None, "file") and Path(name).exists():
        return "file", _of_file(Path(name), reader, paths)
    if kind in (None, "rev") and (commit := find_commit(name)):
        return "rev", _of_commit(commit, reader, paths)
    expected = {None: "a run, a file or a revision", "rev": "a revision"}.get(kind, f"a {kind}")
    unknown = "".join(f"; runs cannot be looked up: {note}" for note in notes)
    raise CharlstmError(f"{printable(name)}: expected {expected}, found none of that name{unknown}")


def _find_runs(name: str, reader: Reader) -> list[TrackedRun]:
    """The run with that id, or whose id alone begins so; else runs of the model with that hash; else of that name,
    or of the DVC experiment.
    """
    if re.fullmatch(rf"[0-9a-f]{{{MIN_ID_PREFIX},64}}", name):
        runs = reader.by_id(name)
        if len(runs) > 1:
            ids = ", ".join(run.run_id for run in runs[:5])
            raise CharlstmError(f"{name}: expected the beginning of one run's id, found {len(runs)}: {ids}")
        if runs := runs or reader.by_tag_prefix(MODEL_TAG, name):
            return runs
    if not name.isprintable():  # e.g. a file's name that is not UTF-8, which MLflow cannot be asked for
        return []
    is_plain = re.fullmatch(r"[\w-]+", name)
    return reader.by_name(name) or (reader.by_tag(EXPERIMENT_TAG, name) if is_plain else [])


def _of_commit(commit: str, reader: Reader | None, paths: Paths) -> list[Match]:
    """Runs of the training that its `dvc.lock` names, and runs that were made from it; or else the commit itself."""
    matches = _of_lock(commit, reader, paths, "dvc.lock of this revision")
    known = {match.run.run_id for match in matches if match.run}
    made_from = [run for run in reader.by_tag(COMMIT, commit) if run.run_id not in known] if reader else []
    matches += [Match(run, None, "its commit: it ran from this revision") for run in made_from]
    if not matches:
        raise CharlstmError(
            f"{commit}: expected a revision with a dvc.lock, or one that a run was made from, found neither"
        )
    return matches


def _of_lock(commit: str, reader: Reader | None, paths: Paths, found_by: str) -> list[Match]:
    """The runs of the training that `dvc.lock` of a commit names, the newest first; without any, the commit itself."""
    lock = lock_at(commit)
    train_md5 = lock.train_md5(paths) if lock else None
    runs = reader.by_tag(TRAIN_MD5, train_md5) if reader and train_md5 else []
    return [Match(run, commit, found_by) for run in runs] or ([Match(None, commit, found_by)] if lock else [])


def _of_file(path: Path, reader: Reader | None, paths: Paths) -> list[Match]:
    """Runs that read or wrote these bytes; where MLflow has none, the revisions whose `dvc.lock` names them."""
    weights = path / WEIGHTS
    files = [weights] if weights.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    files = [path] if path.is_file() else files[:MAX_FILES]
    if not files:
        raise CharlstmError(f"{path}: expected a file or a folder with files, found an empty folder")
    digests = {sha256(file) for file in files}
    if reader and (runs := _runs_with(digests, reader)):
        return [Match(run, None, "the file's SHA-256") for run in runs]
    names = [md5(path), *folders_with(md5(path))] if path.is_file() else [md5(path)]
    names += folders_with(md5(weights)) if weights.is_file() else []
    commits = dict.fromkeys(commit for name in names for commit in commits_with(name))
    if not commits:
        check_git()
        shown = f"SHA-256 {next(iter(digests))}" if len(digests) == 1 else f"{len(files)} files"
        raise CharlstmError(
            f"{path} ({shown}): expected bytes of a training, found no run with them in its record, and no dvc.lock "
            "of a commit or an experiment that names them"
        )
    found: dict[str, Match] = {}  # of several commits that name a run, the first
    for commit in commits:
        for match in _of_lock(commit, reader, paths, "the file's MD5 in dvc.lock"):
            found.setdefault(match.run.run_id if match.run else commit, match)
    return list(found.values())


def _runs_with(digests: set[str], reader: Reader) -> list[TrackedRun]:
    """Runs with all these digests: by tags, which the store searches itself; else through the records of all runs."""
    if len(digests) == 1:
        (digest,) = digests
        if tagged := [*reader.by_tag(MODEL_TAG, digest), *reader.by_tag("corpus_sha256", digest)]:
            return tagged
    runs = list(reader.all())
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        records = pool.map(lambda run: read_files(reader, run), runs)
        return [run for run, files in zip(runs, records, strict=True) if digests <= set(files.values())]
