"""`charlstm reproduce`: can this be made again, to the byte?"""

import logging
import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from ruamel.yaml import YAML

from charlstm.errors import LineageError
from charlstm.files.atomic import sha256
from charlstm.files.documents import parse_yaml
from charlstm.files.urls import without_credentials
from charlstm.tracking.reader import Reader, TrackedRun
from charlstm.tracking.runs import MODEL_TAG
from pipeline.dvc.paths import NOTHING, Paths, load_paths
from pipeline.lineage.rerun import Rerun, corpus_today, source_of
from pipeline.lineage.revisions import worktree
from pipeline.lineage.search import find
from pipeline.lineage.traces import StageRecord, read_records
from pipeline.lineage.tracing import open_reader
from pipeline.provenance.git import git, is_whole
from pipeline.provenance.hashes import LINKS, link_of
from pipeline.provenance.provenance import environment
from pipeline.stage.project import from_here
from pipeline.stage.terminal import printable

log = logging.getLogger("charlstm")


def reproduce(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE|REV",
            help="As for `charlstm trace`: a run, a file or folder, a commit, branch, tag or DVC experiment.",
            callback=from_here,
        ),
    ],
) -> int:
    """Make a run's model again and compare every byte.

    The run's commit, changes, parameters and `dvc.lock` go to a temporary git worktree. Corpus, split and ids come from
    DVC's cache or are made anew. Training, evaluation and sampling really run, tracked by nobody. Then each file is
    compared with the record.

    Exit code: 0 if all are identical, 1 if not, 2 if the run cannot be made again at all.
    """
    lines, code = reproduce_run(run, open_reader())
    for line in lines:
        typer.echo(printable(line, sys.stdout.encoding))
    return code


# Take a run's record, make everything again, compare.

# Record and repetition side by side, file by file, and why they may differ.

IDENTICAL, DIFFERENT, MISSING = "identical", "different", "missing"
DECISIVE = ("processor", "instructions", "threads", "gpu")  # of the hardware: what rounds, and in which order


class Row(NamedTuple):
    """One file: what it is, and its SHA-256 in the record and now."""

    link: str
    path: str
    recorded: str
    found: str | None

    @property
    def result(self) -> str:
        """In one word."""
        return MISSING if self.found is None else IDENTICAL if self.found == self.recorded else DIFFERENT


def compare(files: Mapping[str, str], folder: Path, paths: Paths) -> list[Row]:
    """Each file of the record (path -> SHA-256) beside that of `folder`, in the order of the chain."""
    rows = [
        Row(link, path, recorded, sha256(folder / path) if (folder / path).is_file() else None)
        for path, recorded in sorted(files.items())
        if (link := link_of(path, paths))
    ]
    return sorted(rows, key=lambda row: LINKS.index(row.link))


def first_difference(rows: Sequence[Row]) -> Row | None:
    """The first file of the chain that is not as recorded."""
    return next((row for row in rows if row.result != IDENTICAL), None)


def lines_of(rows: Sequence[Row]) -> list[str]:
    """A table: a file a line."""
    return [f"{row.result:10} {row.link:8} {row.recorded}  {row.path}" + _now(row) for row in rows]


def likely_cause(first: Row, recorded: Mapping[str, str], here: Mapping[str, str], source: Path | None) -> str:
    """Why `first` differs, as far as the tags of both environments tell."""
    if first.link == "corpus":
        where = f"{source}" if source else "its source"
        return f"the corpus no longer has these bytes: {where} was edited or replaced since"
    if not any(name.startswith("hardware.") for name in recorded):
        return "unknown: the record does not say on what it was trained (it was rebuilt from files)"
    names = [name for name in recorded if name.startswith("versions.")] + [f"hardware.{name}" for name in DECISIVE]
    other = [
        f"{name.partition('.')[2]} {recorded.get(name, 'none')} (here {here.get(name, 'none')})"
        for name in names
        if recorded.get(name) != here.get(name)
    ]
    if other:
        return ", ".join(other)
    if first.link in ("corpus", "split", "encoded", "soft_text"):
        return "processor and versions are the same: the code before training is another than the record says"
    return (
        "processor, threads and versions are the same: kernels that do not repeat themselves (GPU, several processes), "
        "or an output that was changed by hand"
    )


def _now(row: Row) -> str:
    return f"  now {row.found}" if row.result == DIFFERENT else ""


# Making it again.

BEFORE_TRAINING = ("corpus", "split", "encoded", "soft_text")
EXIT_DIFFERENT = 1


class Record(NamedTuple):
    """What a run says of how it was made."""

    run: TrackedRun
    commit: str
    changes: str | None
    params: str
    lock: str | None
    files: dict[str, str]  # path -> SHA-256
    stages: list[str]  # after train


def reproduce_run(name: str, reader: Reader) -> tuple[list[str], int]:
    """The lines to print, and the exit code: 0 if every file is identical.

    Raises:
        LineageError: no such run, or its record is not enough, or its commit is not here.
        TrackingError: the store does not answer.
    """
    record = read_record(find_run(name, reader), reader)
    log.info("run %s %s: commit %s%s", record.run.run_id, record.run.name, record.commit, _and_changes(record))
    with worktree(record.commit, record.changes) as folder:
        (folder / "params.yaml").write_text(record.params, encoding="utf-8")
        if record.lock is not None:
            (folder / "dvc.lock").write_text(record.lock, encoding="utf-8")
        paths = load_paths(folder / "dvc.yaml")
        if not any(link_of(path, paths) == "model" for path in record.files):
            raise LineageError(
                f"run {record.run.run_id}: expected a model of the train stage, found none in its record: "
                "a teacher is not made again alone"
            )
        failed = _run_all(record, Rerun(folder, record.run.tags), folder, paths)
        return _conclusion(record, compare(record.files, folder, paths), failed)


def read_record(run: TrackedRun, reader: Reader) -> Record:
    """The record of `run`, checked for what can be checked before anything is run.

    Raises:
        LineageError: it is not enough.
    """
    if MODEL_TAG not in run.tags:
        raise LineageError(f"run {run.run_id}: expected a finished training, found one that is {run.status}: no model")
    records = read_records(reader, run)
    if not records or records[0].params is None:
        raise LineageError(f"run {run.run_id}: expected its record in the artifacts lineage/, found none: too old")
    first = records[0]
    if first.commit is None:
        raise LineageError(f"run {run.run_id}: expected a commit, found none: it was trained outside a git repository")
    if git("cat-file", "-e", f"{first.commit}^{{commit}}") is None:
        raise LineageError(f"run {run.run_id}: commit {first.commit} is not in this repository: git fetch, or go there")
    if first.changes and not is_whole(first.changes):
        note = first.changes.partition("\n")[0]
        raise LineageError(f"run {run.run_id}: expected all that was changed in its commit; changes.diff says {note}")
    files: dict[str, str] = {}
    for one in reversed(records):
        files |= one.files
    later = [one.stage for one in records if one.stage != "train"]
    return Record(run, first.commit, first.changes, _params(records), first.lock, files, later)


def find_run(name: str, reader: Reader) -> TrackedRun:
    """The run that `charlstm trace` would show; of several of one model, the newest."""
    _, found = find(name, None, reader, load_paths(Path("dvc.yaml")))
    of_outputs = [one for one in found if one.run and one.commit] or found  # rather than what else ran from a commit
    runs = [one.run for one in of_outputs if one.run]
    if not runs:
        raise LineageError(
            f"{name}: expected a run, found none in MLflow; `charlstm sync --files` makes that of the model here"
        )
    finished = [run for run in runs if MODEL_TAG in run.tags] or runs
    if len({run.tags.get(MODEL_TAG, run.run_id) for run in finished}) != 1:
        ids = ", ".join(run.run_id for run in finished[:5])
        raise LineageError(f"{name}: expected one model, found {len(finished)} runs: name one: {ids}")
    return finished[0]


def _params(records: Sequence[StageRecord]) -> str:
    """The parameters of training, with the sections of the later stages as these had them."""
    base = records[0].params or ""
    if all(one.params == base for one in records):
        return _with_secrets(base)
    document = parse_yaml(base)
    for one in records[1:]:
        document[one.stage] = parse_yaml(one.params or base)[one.stage]
    text = StringIO()
    YAML(typ="safe", pure=True).dump(document, text)
    return _with_secrets(text.getvalue())


def _with_secrets(recorded: str) -> str:
    """This checkout's own text, where it is the same but for the passwords that no record has."""
    here = Path("params.yaml")
    text = here.read_text(encoding="utf-8") if here.is_file() else ""
    return text if without_credentials(text) == recorded else recorded


def _run_all(record: Record, rerun: Rerun, folder: Path, paths: Paths) -> str | None:
    """Run the stages; the first that failed, or None. Training on other data would only cost time."""

    def is_as_recorded() -> bool:
        rows = compare(record.files, folder, paths)
        return first_difference([row for row in rows if row.link in BEFORE_TRAINING]) is None

    if rerun.prepare(is_as_recorded, is_student=str(paths.soft_text) != NOTHING) != 0:
        return "encode, or one before it or of its teachers,"
    if not is_as_recorded():
        return None
    if rerun.train() != 0:
        return "train"
    return next((stage for stage in record.stages if rerun.after(stage) != 0), None)


def _conclusion(record: Record, rows: Sequence[Row], failed: str | None) -> tuple[list[str], int]:
    lines, first, source = lines_of(rows), first_difference(rows), source_of(record.params)
    corpus = next((row.recorded for row in rows if row.link == "corpus"), None)
    if source and corpus and corpus_today(record.params) != corpus:
        lines.append(f"note: the source {source} has other bytes today, or is gone")
    if first is None:
        return [*lines, f"identical: all {len(rows)} files, from the corpus to the {rows[-1].link}"], 0
    cause = likely_cause(first, record.run.tags, environment() | _same_threads(record), source)
    if failed:
        lines.append(f"stage {failed} failed, see above")
    return [*lines, f"different: first in {first.link}, {first.path}; likely cause: {cause}"], EXIT_DIFFERENT


def _same_threads(record: Record) -> dict[str, str]:
    """Training ran on as many as the record says, whatever this process has."""
    name = "hardware.threads"
    return {name: record.run.tags[name]} if name in record.run.tags else {}


def _and_changes(record: Record) -> str:
    return " and what was changed in it" if record.changes else ""
