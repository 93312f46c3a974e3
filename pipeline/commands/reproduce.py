"""`charlstm reproduce`: can this be made again, to the byte?

The stages run again in a folder of their own: what comes before training from DVC's cache or anew, the rest anew. A
model that DVC restores would prove nothing, so training, evaluation and sampling run without DVC.
"""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from charlstm.errors import CharlstmError
from charlstm.files.atomic import sha256
from charlstm.files.urls import without_credentials
from charlstm.params import NOTHING
from charlstm.tracking.reader import Reader, TrackedRun
from charlstm.tracking.registered_model import MODEL_TAG
from pipeline.dvc.paths import Paths, load_paths
from pipeline.dvc.record import cache_folder
from pipeline.lineage.document import StageRecord, read_records
from pipeline.lineage.revisions import lock_at, worktree
from pipeline.lineage.search import find, of_outputs
from pipeline.provenance.git import git
from pipeline.provenance.hashes import LINKS, link_of
from pipeline.provenance.provenance import COMMIT, DIRTY, environment
from pipeline.stage.project import LOCK, PARAMS, PIPELINE, from_here
from pipeline.stage.settings import MIRROR
from pipeline.stage.stage import EXIT_INTERRUPTED
from pipeline.stage.terminal import printable
from pipeline.stage.tracking_store import STATE_FOLDER, store

log = logging.getLogger("charlstm")

EXIT_DIFFERENT = 1
BEFORE_TRAINING = ("corpus", "split", "encoded", "initial")


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

    The run's commit, parameters and `dvc.lock` go to a temporary git worktree. Corpus, split and ids come from
    DVC's cache or are made anew. Training, evaluation and sampling really run, tracked by nobody. Then each file is
    compared with the record.

    Exit code: 0 if all are identical, 1 if not, 2 if the run cannot be made again at all.
    """
    reader = Reader(store())
    tracked, revision = find_run(run, reader)
    records = read_checked(tracked, reader)
    if revision:
        check_is_of(revision, records, run, tracked.run_id)
    first, commit = records[0], records[0].origin[COMMIT]
    log.info("run %s %s: commit %s", tracked.run_id, tracked.name, commit)
    if first.origin.get(DIRTY) == "yes":
        log.warning("the run's working tree had uncommitted changes: the commit's code runs, with the run's parameters")
    with worktree(commit) as folder:
        _write_params(folder, first.params or "")
        if first.lock is not None:
            (folder / LOCK).write_text(first.lock, encoding="utf-8")
        paths = load_paths(folder / PIPELINE)
        files: dict[str, str] = {}
        for record in reversed(records):
            files |= record.files
        try:
            failed = _run_all(tracked, records, files, folder, paths)
        except KeyboardInterrupt:
            log.warning("nothing is left of this: the same command begins anew, and resumes from no checkpoint")
            raise
        rows = compare(files, folder, paths)
    lines = [*map(str, rows), *([f"stage {failed} failed, see above"] if failed else [])]
    if elsewhere := [one for one in records if one.origin.get(COMMIT, commit) != commit]:
        others = ", ".join(f"{one.stage} at {one.origin[COMMIT]}" for one in elsewhere)
        lines.append(f"all is repeated at commit {commit}, but the record has {others}")
    if different := first_difference(rows):
        cause = likely_cause(different, tracked.tags, environment())
        lines.append(f"different: first in {different.link}, {different.path}; likely cause: {cause}")
    else:
        lines.append(f"identical: all {len(rows)} files, from the corpus to the {rows[-1].link}")
    for line in lines:
        typer.echo(printable(line, sys.stdout.encoding))
    return EXIT_DIFFERENT if different else 0


# What a run says of how it was made.


def find_run(name: str, reader: Reader) -> tuple[TrackedRun, str | None]:
    """The run that `charlstm trace` would show, of several of one model the newest; and the commit, if it is of one.

    Raises:
        CharlstmError: there is none, or there are several models.
    """
    _, matches = find(name, None, reader, load_paths())
    trainings = of_outputs(matches)
    runs = [match.run for match in trainings if match.run]
    if not runs:
        raise CharlstmError(
            f"{name}: the model that its dvc.lock names has no run here: `dvc pull` or `dvc repro` brings its files, "
            f"and `charlstm sync --files` makes its run from them"
        )
    finished = [run for run in runs if MODEL_TAG in run.tags] or runs
    if len({run.tags.get(MODEL_TAG, run.run_id) for run in finished}) != 1:
        ids = ", ".join(f"{run.run_id} ({run.name})" for run in finished[:5])
        raise CharlstmError(f"{name}: expected one model, found {len(finished)} runs: name one: {ids}")
    return finished[0], next((match.commit for match in trainings if match.run == finished[0]), None)


def check_is_of(commit: str, records: Sequence[StageRecord], name: str, run_id: str) -> None:
    """Check that the run's record is of the outputs that `dvc.lock` of this commit names.

    Raises:
        CharlstmError: its model was evaluated or sampled again since, with another result.
    """
    recorded = {path: md5 for record in reversed(records) for path, md5 in record.outputs.items()}
    lock = lock_at(commit)
    for path, md5 in (lock.files("outs") if lock else {}).items():
        if recorded.get(path, md5) != md5:
            raise CharlstmError(
                f"{name}: its dvc.lock has another {path} than its run, which was evaluated or sampled again since; "
                f"`charlstm reproduce {run_id}` makes what the run has now"
            )


def read_checked(run: TrackedRun, reader: Reader) -> list[StageRecord]:
    """The records of `run`, checked for what can be checked before anything is run.

    Raises:
        CharlstmError: they are not enough.
    """
    if MODEL_TAG not in run.tags:
        raise CharlstmError(f"run {run.run_id}: expected a finished training, found one that is {run.status}: no model")
    records = read_records(reader, run)
    if not records or records[0].params is None:
        raise CharlstmError(f"run {run.run_id}: expected its record in the artifacts lineage/, found none: too old")
    commit = records[0].origin.get(COMMIT)
    if commit is None:
        raise CharlstmError(f"run {run.run_id}: expected a commit, found none: it was trained outside a git repository")
    if git("cat-file", "-e", f"{commit}^{{commit}}") is None:
        raise CharlstmError(f"run {run.run_id}: commit {commit} is not in this repository: git fetch, or go there")
    return records


# Record and repetition side by side, file by file, and why they may differ.

DECISIVE = ("hardware.processor", "hardware.instructions", "hardware.gpu")  # all stages take the recorded threads


class Row(NamedTuple):
    """One file: what it is, and its SHA-256 in the record and now."""

    link: str
    path: str
    recorded: str
    found: str | None

    def __str__(self) -> str:
        if self.found == self.recorded:
            return f"identical  {self.link:8} {self.recorded}  {self.path}"
        return f"different  {self.link:8} {self.recorded}  {self.path}  now {self.found or 'missing'}"


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
    return next((row for row in rows if row.found != row.recorded), None)


def likely_cause(first: Row, recorded: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Why `first` differs, as far as the tags of both environments tell."""
    if first.link == "corpus":
        return "the corpus no longer has these bytes: its source was edited or replaced since"
    names = [*(name for name in recorded if name.startswith("versions.")), *DECISIVE]
    other = [
        f"{name.partition('.')[2]} {recorded.get(name, 'not recorded')} (here {here.get(name, 'none')})"
        for name in names
        if recorded.get(name) != here.get(name)
    ]
    return ", ".join(other) or (
        "processor and versions are the same: other code before training, kernels that do not repeat themselves (GPU, "
        "several processes), or an output that was changed by hand"
    )


# Making it again.

FIRST = ("download", "split", "encode")
PYTHON = [sys.executable, "-m"]
# Of the surroundings: whose store, experiment, process group and repository this is; and a mirror, which may have what
# is to be trained.
PRIVATE = (
    MIRROR,
    *("MLFLOW_", "DVC_ROOT", "DVC_EXP", "DVC_STAGE", "GIT_", "PYTHONSAFEPATH"),
    *("OMP_NUM_THREADS", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
    *("MASTER_", "TORCHELASTIC_", "ACCELERATE_"),
)
SECONDS_TO_STOP = 30


def _run_all(
    run: TrackedRun, records: Sequence[StageRecord], files: Mapping[str, str], folder: Path, paths: Paths
) -> str | None:
    """Run the stages; the first that failed, or None. Training on other data would only cost time."""

    def is_as_recorded() -> bool:
        rows = compare(files, folder, paths)
        return first_difference([row for row in rows if row.link in BEFORE_TRAINING]) is None

    if _prepare(folder, is_as_recorded, paths) != 0:
        return "encode, or one before it,"
    if not is_as_recorded():
        return None
    if _train(folder, run.tags) != 0:
        return "train"
    for record in records:
        _write_params(folder, record.params or records[0].params or "")
        threads = _threads(record.origin)
        if record.stage != "train" and _run(folder, f"pipeline.{record.stage}", environment=threads) != 0:
            return record.stage
    return None


def _write_params(folder: Path, params: str) -> None:
    """Write recorded parameters, with the passwords that no record has where this checkout's are else the same."""
    here = PARAMS.read_text(encoding="utf-8")
    text = here if without_credentials(here) == params else params
    (folder / PARAMS).write_text(text, encoding="utf-8")


def _prepare(folder: Path, is_as_recorded: Callable[[], bool], paths: Paths) -> int:
    """Restore or make corpus, split and ids, and restore the model that training begins from.

    Returns:
        the exit code of what failed, or 0.
    """
    initial = [("pull", f"{paths.initial}.dvc")] if str(paths.initial) != NOTHING else []
    if (folder / ".dvc").is_dir() and (folder / LOCK).is_file():
        local = Path(".dvc/config.local")
        if local.is_file():
            shutil.copy(local, folder / local)
        cache = ("cache", "dir", "--local", str(cache_folder().resolve()))
        # From the cache, else from the remote, if there is one. What DVC cannot do is done without it.
        for arguments in (cache, ("pull", *FIRST), *initial):
            _run(folder, "dvc", *arguments, "--quiet", stderr=subprocess.DEVNULL)
        if is_as_recorded():
            return 0
    return next((code for stage in FIRST if (code := _run(folder, f"pipeline.{stage}"))), 0)


def _train(folder: Path, tags: Mapping[str, str]) -> int:
    """Really train, from the first step, on as many threads and processes and on the device that the run's tags say."""
    shutil.rmtree(folder / STATE_FOLDER, ignore_errors=True)
    environment = _threads(tags)
    if tags.get("device", "").startswith("cpu"):
        environment["ACCELERATE_USE_CPU"] = "true"
    command, num_processes = ["pipeline.train"], tags.get("num_processes", "1")
    if num_processes != "1":
        command = ["torch.distributed.run", "--standalone", "--nproc_per_node", num_processes, "-m", *command]
    return _run(folder, *command, environment=environment)


def _threads(recorded: Mapping[str, str]) -> dict[str, str]:
    """The variable for as many threads as are recorded: sums depend on them in their last bits."""
    return {"OMP_NUM_THREADS": recorded["hardware.threads"]} if "hardware.threads" in recorded else {}


def _run(
    folder: Path, module: str, *arguments: str, environment: Mapping[str, str] | None = None, stderr: int | None = None
) -> int:
    """Run a module of Python; its exit code."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    env = {**kept, "PATH": path, "DVC_NO_ANALYTICS": "true", **(environment or {})}
    stdout = stderr or sys.__stderr__  # the table alone goes to stdout
    command = [*PYTHON, module, *arguments]
    with subprocess.Popen(command, cwd=folder, env=env, stdout=stdout, stderr=stderr) as process:
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    return code
