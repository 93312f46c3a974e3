"""From what a user names to the trainings that it belongs to.

A name is tried as a run, then as a file, then as a revision. What is found of a file or a text is found by its content,
wherever it lies now.
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from charlstm.errors import LineageError
from charlstm.files.atomic import sha256
from charlstm.tracking.reader import Reader, TrackedRun
from charlstm.tracking.runs import MODEL_TAG
from pipeline.dvc.paths import Paths
from pipeline.dvc.record import folders_with
from pipeline.lineage import revisions
from pipeline.lineage.traces import WEIGHTS, Trace, of_commit, of_run, read_files, train_md5_of
from pipeline.provenance.hashes import folder_md5, md5
from pipeline.provenance.provenance import COMMIT, EXPERIMENT, TRAIN_MD5

KINDS = ("run", "file", "rev")
MIN_ID_PREFIX, ID_LENGTH = 8, 32
MIN_HASH_PREFIX, HASH_LENGTH = 12, 64
MAX_FILES = 2000
NUM_THREADS = 8  # a server answers several at once


class Found(NamedTuple):
    """A run or a commit, and what ties it to what was asked for."""

    run: TrackedRun | None
    commit: str | None
    found_by: str


def find(name: str, kind: str | None, reader: Reader | None, paths: Paths) -> tuple[str, list[Found]]:
    """What `name` is (one of `KINDS`), and all that it belongs to.

    Raises:
        LineageError: nothing has that name, or the only thing that has it belongs to no training.
        TrackingError: the store does not answer any more.
    """
    if kind in (None, "run") and reader and (runs := find_runs(name, reader)):
        return "run", [Found(run, None, "its name or id") for run in runs]
    if kind in (None, "file") and Path(name).exists():
        return "file", _of_file(Path(name), reader, paths)
    if kind in (None, "rev") and (commit := revisions.find_commit(name)):
        return "rev", _of_commit(commit, reader, paths)
    asked = {
        None: "a run, a file or a revision",
        "run": "a run",
        "file": "a file",
        "rev": "a commit, branch, tag or experiment",
    }
    where = " or ".join((["this repository"] if kind != "run" else []) + (["MLflow"] if kind in (None, "run") else []))
    raise LineageError(f"{name}: expected {asked[kind]}, found none of that name in {where}{_hint(kind, reader)}")


def find_runs(name: str, reader: Reader) -> list[TrackedRun]:
    """The run with that id, or whose id alone begins so; else runs of the model with that hash; else of that name,
    or of the DVC experiment.

    Raises:
        LineageError: several ids begin so.
    """
    if re.fullmatch(rf"[0-9a-f]{{{MIN_ID_PREFIX},{ID_LENGTH}}}", name) and (runs := reader.by_id(name)):
        if len(runs) > 1:
            ids = ", ".join(run.run_id for run in runs[:5])
            raise LineageError(f"{name}: expected the beginning of one run's id, found {len(runs)}: {ids}")
        return runs
    is_hash = re.fullmatch(rf"[0-9a-f]{{{MIN_HASH_PREFIX},{HASH_LENGTH}}}", name)
    if is_hash and (runs := reader.by_tag_prefix(MODEL_TAG, name)):
        return runs
    is_plain = re.fullmatch(r"[\w-]+", name)
    return reader.by_name(name) or (reader.by_tag(EXPERIMENT, name) if is_plain else [])


def traces_of(found: Sequence[Found], reader: Reader | None, paths: Paths) -> list[Trace]:
    """Of each, its chain; without those of commits that have no training."""
    traces = []
    for one in found:
        if one.run and reader:
            traces.append(of_run(reader, one.run, paths, one.found_by))
        elif one.commit and (trace := of_commit(one.commit, paths, one.found_by)):
            traces.append(trace)
    return traces


def _of_commit(commit: str, reader: Reader | None, paths: Paths) -> list[Found]:
    """Runs of the training that its `dvc.lock` names, and runs that were made from it; or else the commit itself."""
    lock = revisions.lock_at(commit)
    train_md5 = train_md5_of(lock, paths) if lock else None
    by_lock = reader.by_tag(TRAIN_MD5, train_md5) if reader and train_md5 else []
    made_from = reader.by_tag(COMMIT, commit) if reader else []
    known = {run.run_id for run in by_lock}
    found = [Found(run, commit, "its outputs, which dvc.lock of this revision names") for run in by_lock]
    if lock and not by_lock:
        found.append(Found(None, commit, "dvc.lock of this revision"))
    found += [Found(run, None, "its commit: it ran from this revision") for run in made_from if run.run_id not in known]
    if not found:
        raise LineageError(
            f"{commit}: expected a revision with a dvc.lock, or one that a run was made from, found neither"
        )
    return found


def _of_file(path: Path, reader: Reader | None, paths: Paths) -> list[Found]:
    """Runs that read or wrote these bytes; where MLflow has none, the revisions whose `dvc.lock` names them."""
    weights = path / WEIGHTS
    files = [weights] if weights.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    files = [path] if path.is_file() else files[:MAX_FILES]
    if not files:
        raise LineageError(f"{path}: expected a file or a folder with files, found an empty folder")
    digests = {sha256(file) for file in files}
    found = [Found(run, None, "the file's SHA-256") for run in _runs_with(digests, reader)] if reader else []
    if found:
        return found
    names = [md5(path), *folders_with(md5(path))] if path.is_file() else [folder_md5(path)]
    names += folders_with(md5(weights)) if weights.is_file() else []
    commits = dict.fromkeys(commit for name in names for commit in revisions.commits_with(name))
    if not commits:
        shown = f"SHA-256 {next(iter(digests))}" if len(digests) == 1 else f"{len(files)} files"
        raise LineageError(
            f"{path} ({shown}): expected bytes of a training, found no run with them in its record, and no dvc.lock "
            "of a commit or an experiment that names them"
        )
    return [one for commit in commits for one in _of_commit_alone(commit, reader, paths)]


def _of_commit_alone(commit: str, reader: Reader | None, paths: Paths) -> list[Found]:
    lock = revisions.lock_at(commit)
    train_md5 = train_md5_of(lock, paths) if lock else None
    runs = reader.by_tag(TRAIN_MD5, train_md5) if reader and train_md5 else []
    words = "the file's MD5 in dvc.lock"
    return [Found(run, commit, words) for run in runs] or [Found(None, commit, words)]


def _runs_with(digests: set[str], reader: Reader) -> Iterator[TrackedRun]:
    """By the tags first, which the store searches itself; else through the records of all runs."""
    if len(digests) == 1:
        (digest,) = digests
        tagged = [*reader.by_tag(MODEL_TAG, digest), *reader.by_tag("corpus_sha256", digest)]
        if tagged:
            yield from tagged
            return
    runs = list(reader.all())
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for run, files in zip(runs, pool.map(lambda one: read_files(reader, one), runs), strict=True):
            if digests <= set(files.values()):
                yield run


def _hint(kind: str | None, reader: Reader | None) -> str:
    return "; MLflow was not asked" if kind in (None, "run") and reader is None else ""
