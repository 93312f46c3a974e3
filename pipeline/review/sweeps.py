"""What `charlstm sweep` does: the experiments of one commit, what became of each, as a table and a picture."""

import contextlib
import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.table import Table

from charlstm.errors import LineageError, ParamsError, TrackingError
from charlstm.evaluation.published import TEST_PREFIX
from charlstm.files.documents import parse_yaml, validate
from charlstm.params import Params
from charlstm.report.comparison import MAX_NAMED, short_names
from charlstm.report.plots import plot_sweep
from charlstm.tracking.client import SWEEP_TAG
from charlstm.tracking.reader import Reader, TrackedRun
from charlstm.tracking.registered_model import LOSS_SUFFIX, PROTOCOLS
from charlstm.tracking.view import differing_params
from pipeline.dvc.paths import load_paths
from pipeline.lineage.revisions import experiments, find_commit, lock_at
from pipeline.lineage.traces import train_md5_of
from pipeline.lineage.tracing import open_reader
from pipeline.provenance.git import git
from pipeline.provenance.provenance import EXPERIMENT, TRAIN_MD5
from pipeline.stage.presets import shown

log = logging.getLogger("charlstm")

NOT_COMPARED = ("train/", "validation/", TEST_PREFIX)
NOT_VARIED = ("download.", "sample.")  # decide no loss
QUEUE = Path("tmp/exps/celery")  # below `.dvc`: it is there once something was queued
SECONDS_TO_ANSWER = 30
RUNNING, WAITING, FAILED = "Running", "Queued", "Failed"  # as `dvc queue status` says it
# All that `dvc queue status` asks, but for the workers. Those are asked through a file, which a worker may read while
# it is being written, and then it dies (DVC 3.67).
ASK_DVC = """
import json
from dvc.repo import Repo
tasks = Repo().experiments.celery_queue.status()
print(json.dumps([[task["rev"], task["name"], task["status"]] for task in tasks]))
"""
WORKER = "queue-worker"  # a subcommand of DVC
ID_LENGTH = 7  # of a revision in place of a name
MAX_COMMITS = 10


class Sweep(NamedTuple):
    """The experiments of a sweep that have losses, the best by `protocol` first, and the parameters that differ."""

    runs: list[tuple[str, TrackedRun]]  # by the experiment's name
    protocol: str
    varied: list[str]

    def losses(self, protocol: str) -> list[float]:
        """In nats/char, of each."""
        return [run.metrics[f"{protocol}{LOSS_SUFFIX}"] for _, run in self.runs]


class Task(NamedTuple):
    """An experiment of DVC's queue that runs, waits or has failed."""

    name: str
    state: str
    revision: str  # a commit with its parameters
    baseline: str  # the commit that it begins from


class Queue(NamedTuple):
    """What DVC's queue has besides what is done, and whether a worker answers."""

    tasks: list[Task]
    has_worker: bool

    def named(self, state: str) -> list[Task]:
        """The tasks in that state."""
        return [task for task in self.tasks if task.state == state]


def show_sweep(revision: str, output: Path) -> None:
    """Print what became of the experiments that began from a commit, and those with losses as a table and a picture.

    Raises:
        LineageError: there is no such commit, or no experiment began from it, or all are done and none has a loss.
        TrackingError: the store does not answer.
    """
    commit = find_commit(revision)
    if commit is None:
        raise LineageError(f"{revision}: expected a commit, branch or tag, found none of that name")
    queue, console = read_queue(), Console(highlight=False, markup=False)
    here = queue._replace(tasks=[task for task in queue.tasks if task.baseline == commit])
    known = {name for name, baseline in experiments().values() if baseline == commit}
    try:
        runs = read_runs(commit)
    except TrackingError as error:  # what DVC knows is said all the same
        if not (here.tasks or known):
            raise TrackingError(f"{error}; {_none_began(revision, commit, queue)}") from error
        console.print(*status_lines(commit, known, here), sep="\n", soft_wrap=True)
        raise
    if not (here.tasks or known or runs):
        raise LineageError(_none_began(revision, commit, queue))
    measured = {name: run for name, run in runs.items() if _protocols(run)}
    lines = status_lines(commit, known | set(measured), here, [run.params for run in measured.values()])
    console.print(*lines, sep="\n", soft_wrap=True)
    if measured:
        _show_losses(sweep_of(measured), console, output)
    if lacking := sorted(known - set(measured)):
        text = f"MLflow has no loss of {', '.join(lacking)}; `charlstm sync` sends it what is here"
        console.print(text, soft_wrap=True)
    if not (measured or here.tasks):
        raise LineageError(
            f"{revision}: expected experiments with losses, found {len(known | set(runs))} without: "
            "nothing to compare, and no picture"
        )


def _show_losses(sweep: Sweep, console: Console, output: Path) -> None:
    protocols = sorted(set.intersection(*(_protocols(run) for _, run in sweep.runs)))
    values = {name: [run.params.get(name, "") for _, run in sweep.runs] for name in sweep.varied}
    number = "1 experiment" if len(sweep.runs) == 1 else f"{len(sweep.runs)} experiments"
    table = Table(title=f"{number} (nats per character; the best first)")
    for column in ("experiment", *short_names(sweep.varied), *protocols):
        table.add_column(column)
    losses = [[f"{loss:.4f}" for loss in sweep.losses(protocol)] for protocol in protocols]
    for row in zip([name for name, _ in sweep.runs], *values.values(), *losses, strict=True):
        table.add_row(*row)
    console.print(table)
    plot_sweep(output, values, sweep.losses(sweep.protocol), f"{sweep.protocol} (nats per character)")
    console.print(f"the loss over each parameter: {output}", soft_wrap=True)


def status_lines(commit: str, done: set[str], queue: Queue, measured: Sequence[Mapping[str, str]] = ()) -> list[str]:
    """How many are done, run, wait and failed, which ones run and failed, and what to do about those that do not move.

    Each is named by what differs between all of them, those done (their parameters are `measured`), and the commit.
    """
    running, waiting, failed = (queue.named(state) for state in (RUNNING, WAITING, FAILED))
    failed = [task for task in failed if task.name not in done]  # queued again, and done
    num_done = len(done - {task.name for task in (*running, *waiting)})
    counts = f"{num_done} done, {len(running)} running, {len(waiting)} waiting, {len(failed)} failed"
    own = {task: _params_at(task.revision) for task in queue.tasks}
    columns = [one for one in (*measured, *own.values(), _params_at(commit)) if one] if queue.tasks else []
    varied = varied_params(columns)
    named = list(zip(varied, short_names(varied), strict=True))[:MAX_NAMED]

    def labels(tasks: Sequence[Task]) -> str:
        words = [", ".join(f"{short} {shown(own[task][name])}" for name, short in named if own[task]) for task in tasks]
        both = zip((task.name for task in tasks), words, strict=True)
        return "; ".join(" \N{MIDDLE DOT} ".join(filter(None, pair)) for pair in both)

    lines = [f"from {_title(commit)}: {counts}"]
    if running:
        lost = (
            "" if queue.has_worker else " (no worker answers: if it was killed, `dvc queue kill NAME` says so to DVC)"
        )
        lines.append(f"running: {labels(running)}{lost}")
    if failed:
        lines.append(f"failed: {labels(failed)} (`dvc queue logs NAME` says why)")
    if waiting and not queue.has_worker:
        lines.append("no worker takes what waits: `dvc queue start` starts one")
    return lines


def read_queue() -> Queue:
    """DVC's queue. To ask takes two seconds, so it is asked only where something was queued.

    Without its answer, there is a warning, and an empty queue.
    """
    dvc = next((folder / ".dvc" for folder in (Path.cwd(), *Path.cwd().parents) if (folder / ".dvc").is_dir()), None)
    if dvc is None or not (dvc / QUEUE).is_dir():
        return Queue([], has_worker=False)
    command = [sys.executable, "-c", ASK_DVC]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS_TO_ANSWER)
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error) if isinstance(error, OSError) else f"no answer in {SECONDS_TO_ANSWER} seconds"
    if reason:
        log.warning("what runs, waits and failed is unknown: DVC's queue: %s", reason)
        return Queue([], has_worker=False)
    return Queue(tasks_of(json.loads(done.stdout)), has_worker=_has_worker(dvc.parent))


def tasks_of(status: Sequence[Sequence[str | None]]) -> list[Task]:
    """The tasks that are not done, of all that DVC knows: revision, name, state. Their commits are asked of git."""
    found = [(revision, name, state) for revision, name, state in status if state in (RUNNING, WAITING, FAILED)]
    # A task is a stash: its first parent is the commit that it begins from.
    hashes = [revision for revision, _, _ in found if revision]
    known = git("log", "--no-walk", "--ignore-missing", "--format=%H %P", *hashes, "--") if hashes else None
    parents = {revision: above for revision, *above in map(str.split, (known or "").splitlines())}
    return [
        Task(name or revision[:ID_LENGTH], state, revision, parents[revision][0])
        for revision, name, state in found
        if revision and state and parents.get(revision)
    ]


def _has_worker(root: Path) -> bool:
    """Whether a process takes tasks of this project's queue."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if WORKER in process.cmdline() and Path(process.cwd()).resolve() == root.resolve():
                return True
    return False


def _none_began(revision: str, commit: str, queue: Queue) -> str:
    """That a commit has no experiments, and which ones have some."""
    names = {(baseline, name) for name, baseline in experiments().values()}
    counts = Counter(baseline for baseline, _ in names | {(task.baseline, task.name) for task in queue.tasks})
    none = f"{revision}: no experiment began from {_title(commit)}"
    newest = git("log", "--no-walk", "--ignore-missing", "--format=%H", *counts, "--") if counts else None
    if not newest:
        return f"{none}, nor from any other commit; `dvc exp run --queue -S NAME=VALUE,VALUE` makes some"
    lines = [f"{none}; others have some (newest first):"]
    for one in newest.splitlines()[:MAX_COMMITS]:
        number = f"{counts[one]} experiment{'s' if counts[one] > 1 else ''}"
        lines.append(f"  charlstm sweep {_short(one)}  # {number} from: {_subject(one)}")
    return "\n".join(lines)


def _title(commit: str) -> str:
    return f"{_short(commit)} ({_subject(commit)})"


def _short(commit: str) -> str:
    return git("rev-parse", "--short", commit) or commit


def _subject(commit: str) -> str:
    return git("log", "-1", "--format=%s", commit) or ""


def _params_at(commit: str) -> dict[str, str]:
    """All parameters, as MLflow has them; empty where they cannot be read, as of another version."""
    try:
        params = validate(Params, parse_yaml(git("show", f"{commit}:./params.yaml") or ""), Path("params.yaml"))
    except (ParamsError, ValueError):
        return {}
    return {name: str(value) for name, value in params.flat().items()}


def read_runs(commit: str) -> dict[str, TrackedRun]:
    """The experiments that began from a commit, by name, each with the run of its model.

    Those that DVC has in this repository, and those below the commit's run in MLflow. The tie is content: an experiment
    that DVC restored from its run cache has the run that trained the model.

    Raises:
        TrackingError: the store does not answer.
    """
    reader = open_reader()
    return {**_in_mlflow(commit, reader), **_in_dvc(commit, reader)}


def sweep_of(measured: Mapping[str, TrackedRun]) -> Sweep:
    """Runs that all have losses, by name, in the order of the first protocol that they have in common."""
    runs = list(measured.items())
    protocol = common_protocol([run for _, run in runs])
    runs.sort(key=lambda one: one[1].metrics[f"{protocol}{LOSS_SUFFIX}"])
    return Sweep(runs, protocol, varied_params([run.params for _, run in runs]))


def _in_mlflow(commit: str, reader: Reader) -> dict[str, TrackedRun]:
    parents = reader.by_tag(SWEEP_TAG, commit)
    children = [run for parent in parents for run in reader.by_tag("mlflow.parentRunId", parent.run_id)]
    return {run.tags.get(EXPERIMENT, run.name): run for run in children}


def _in_dvc(commit: str, reader: Reader) -> dict[str, TrackedRun]:
    paths, found = load_paths(Path("dvc.yaml")), {}
    for experiment, (name, baseline) in experiments().items():
        lock = lock_at(experiment) if baseline == commit else None
        train_md5 = train_md5_of(lock, paths) if lock else None
        if train_md5 and (runs := reader.by_tag(TRAIN_MD5, train_md5)):
            found[name] = runs[0]
    return found


def common_protocol(runs: Sequence[TrackedRun]) -> str:
    """The first protocol that all runs were measured by."""
    common = set.intersection(*map(_protocols, runs))
    if not common:
        raise LineageError("expected a protocol that all experiments were measured by, found none")
    return next(one for one in (*PROTOCOLS, *sorted(common)) if one in common)


def varied_params(params: Sequence[Mapping[str, str]]) -> list[str]:
    """The parameters that are not the same everywhere, of those that decide a loss."""
    return [name for name in differing_params(params) if not name.startswith(NOT_VARIED)]


def _protocols(run: TrackedRun) -> set[str]:
    """Of whole evaluations of the validation part: not the losses of the training itself, nor of the test part."""
    names = [name for name in run.metrics if name.endswith(LOSS_SUFFIX) and not name.startswith(NOT_COMPARED)]
    return {name.removesuffix(LOSS_SUFFIX) for name in names}
