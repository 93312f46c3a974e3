"""`charlstm sweep`: the experiments of one commit, what became of each, as a table and a picture."""

import contextlib
import json
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import psutil
import typer
from rich.console import Console
from rich.table import Table

from charlstm.errors import LineageError
from charlstm.evaluation.published import TEST_PREFIX
from charlstm.tracking.registered_model import PROTOCOLS
from charlstm.tracking.view import differing_params
from pipeline.dvc.paths import load_paths
from pipeline.lineage.document import losses_at
from pipeline.lineage.revisions import experiments, find_commit
from pipeline.provenance.git import git
from pipeline.provenance.summary import flat_in, losses_of
from pipeline.stage.presets import shown
from pipeline.stage.project import from_here

log = logging.getLogger("charlstm")

NOT_VARIED = ("download.", "sample.")  # decide no loss
MAX_COMMITS = 10


def sweep(
    revision: Annotated[
        str, typer.Argument(metavar="REV", help="The commit that the experiments began from.")
    ] = "HEAD",
    output: Annotated[
        Path, typer.Option("--output", "-o", dir_okay=False, callback=from_here, help="The picture.")
    ] = Path("sweep.png"),
) -> int:
    """Show a sweep of `dvc exp run --queue`: a table and a picture.

    The first line counts what is done, runs, waits and failed. The table has the parameters that differ and all losses,
    the best first. The picture has the loss over each of the parameters. All are of the experiments that began from one
    commit. If there are none, it says which other commits have some.
    """
    commit = find_commit(revision)
    if commit is None:
        raise LineageError(f"{revision}: expected a commit, branch or tag, found none of that name")
    queue, console = read_queue(), Console(highlight=False, markup=False, soft_wrap=True)
    here = queue._replace(tasks=[task for task in queue.tasks if task.baseline == commit])
    done = read_experiments(commit)
    if not (here.tasks or done):
        raise LineageError(_none_began(revision, commit, queue))
    console.print(*status_lines(commit, here, done), sep="\n")
    if measured := {name: experiment for name, experiment in done.items() if experiment.losses}:
        _show_losses(measured, output)
    elif not here.tasks:
        raise LineageError(f"{revision}: expected experiments with losses, found {len(done)} without: no picture")
    return 0


# The losses.


class Experiment(NamedTuple):
    """An experiment that is done: its parameters by dotted name, and its losses by protocol."""

    params: dict[str, str]
    losses: dict[str, float]


def read_experiments(commit: str) -> dict[str, Experiment]:
    """The DVC experiments that began from a commit, by name, as git has them.

    Losses are those of whole evaluations of the validation part.
    """
    paths, done = load_paths(Path("dvc.yaml")), {}
    for revision, (name, baseline) in experiments().items():
        if baseline == commit:
            losses = losses_of(losses_at(revision, paths))
            of_validation = {key: loss for key, loss in losses.items() if not key.startswith(TEST_PREFIX)}
            done[name] = Experiment(_params_at(revision), of_validation)
    return done


def varied_params(params: Sequence[Mapping[str, str]]) -> list[str]:
    """The parameters that are not the same everywhere, of those that decide a loss."""
    return [name for name in differing_params(params) if not name.startswith(NOT_VARIED)]


def _show_losses(measured: Mapping[str, Experiment], output: Path) -> None:
    from charlstm.report.comparison import short_names  # pages and pictures take seconds to import
    from charlstm.report.plots import plot_sweep

    protocols = sorted(set.intersection(*(set(experiment.losses) for experiment in measured.values())))
    if not protocols:
        raise LineageError("expected a protocol that all experiments were measured by, found none")
    protocol = next(name for name in (*PROTOCOLS, *protocols) if name in protocols)
    names = sorted(measured, key=lambda name: measured[name].losses[protocol])
    losses = [measured[name].losses for name in names]
    varied = varied_params([measured[name].params for name in names])
    values = {param: [measured[name].params.get(param, "") for name in names] for param in varied}
    number = "1 experiment" if len(names) == 1 else f"{len(names)} experiments"
    table = Table(title=f"{number} (nats per character; the best first)")
    for column in ("experiment", *short_names(varied), *protocols):
        table.add_column(column)
    cells = [[f"{loss[one]:.4f}" for loss in losses] for one in protocols]
    for row in zip(names, *values.values(), *cells, strict=True):
        table.add_row(*row)
    console = Console(highlight=False, markup=False)
    console.print(table)
    plot_sweep(output, values, [loss[protocol] for loss in losses], f"{protocol} (nats per character)")
    console.print(f"the loss over each parameter: {output}", soft_wrap=True)


# What runs, waits and failed.

QUEUE = Path(".dvc/tmp/exps/celery")  # it is there once something was queued
SECONDS_TO_ANSWER = 30
STATES = RUNNING, WAITING, FAILED = "Running", "Queued", "Failed"  # as `dvc queue status` says it
# All that `dvc queue status` asks, but for the workers. Those are asked through a file, which a worker may read while
# it is being written, and then it dies (DVC 3.67).
ASK_DVC = """
import json
from dvc.repo import Repo
queue = Repo().experiments.celery_queue
failed = (entry for entry, _ in queue.iter_failed())
tasks = {"Running": queue.iter_active(), "Queued": queue.iter_queued(), "Failed": failed}
rows = [(task.name, state, task.stash_rev, task.baseline_rev) for state, entries in tasks.items() for task in entries]
print(json.dumps(rows))
"""
WORKER = "queue-worker"  # a subcommand of DVC


class Task(NamedTuple):
    """An experiment of DVC's queue that runs, waits or has failed."""

    name: str
    state: str
    revision: str  # a commit with its parameters
    baseline: str  # the commit that it begins from


class Queue(NamedTuple):
    """The tasks of DVC's queue that are not done, and whether a worker answers."""

    tasks: list[Task]
    has_worker: bool


def read_queue() -> Queue:
    """DVC's queue. To ask takes two seconds, so it is asked only where something was queued.

    Without its answer, there is a warning, and an empty queue.
    """
    if not QUEUE.is_dir():
        return Queue([], has_worker=False)
    command = [sys.executable, "-c", ASK_DVC]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS_TO_ANSWER)
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1] if done.returncode else ""
    except subprocess.TimeoutExpired:
        reason = f"no answer in {SECONDS_TO_ANSWER} seconds"
    if reason:
        log.warning("what runs, waits and failed is unknown: DVC's queue: %s", reason)
        return Queue([], has_worker=False)
    return Queue([Task(*row) for row in json.loads(done.stdout)], _has_worker(Path.cwd().resolve()))


def _has_worker(root: Path) -> bool:
    """Whether a process takes tasks of this project's queue."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if WORKER in process.cmdline() and Path(process.cwd()).resolve() == root:
                return True
    return False


def status_lines(commit: str, queue: Queue, done: Mapping[str, Experiment]) -> list[str]:
    """How many are done, run, wait and failed, which ones run and failed, and what to do about those that do not move.

    Each is named by what differs between all of them, those that are done, and the commit.
    """
    from charlstm.report.comparison import MAX_NAMED, short_names

    running, waiting, failed = ([task for task in queue.tasks if task.state == state] for state in STATES)
    failed = [task for task in failed if task.name not in done]  # queued again, and done
    num_done = len(done.keys() - {task.name for task in (*running, *waiting)})
    counts = f"{num_done} done, {len(running)} running, {len(waiting)} waiting, {len(failed)} failed"
    own = {task: _params_at(task.revision) for task in queue.tasks}
    others = [experiment.params for experiment in done.values()]
    columns = [params for params in (*others, *own.values(), _params_at(commit)) if params] if queue.tasks else []
    varied = varied_params(columns)
    named = list(zip(varied, short_names(varied), strict=True))[:MAX_NAMED]

    def labels(tasks: Sequence[Task]) -> str:
        words = [", ".join(f"{short} {shown(own[task][name])}" for name, short in named if own[task]) for task in tasks]
        both = zip((task.name for task in tasks), words, strict=True)
        return "; ".join(" \N{MIDDLE DOT} ".join(filter(None, pair)) for pair in both)

    lines = [f"from {_title(commit)}: {counts}"]
    if running:
        lost = " (no worker answers: if it was killed, `dvc queue kill NAME` says so to DVC)"
        lines.append(f"running: {labels(running)}{'' if queue.has_worker else lost}")
    if failed:
        lines.append(f"failed: {labels(failed)} (`dvc queue logs NAME` says why)")
    if waiting and not queue.has_worker:
        lines.append("no worker takes what waits: `dvc queue start` starts one")
    return lines


def _params_at(commit: str) -> dict[str, str]:
    return flat_in(git("show", f"{commit}:./params.yaml"))


def _none_began(revision: str, commit: str, queue: Queue) -> str:
    """A message that a commit has no experiments, and which ones have some."""
    names = {(baseline, name) for name, baseline in experiments().values()}
    counts = Counter(baseline for baseline, _ in names | {(task.baseline, task.name) for task in queue.tasks})
    none = f"{revision}: no experiment began from {_title(commit)}"
    newest = git("log", "--no-walk", "--ignore-missing", "--format=%H %h %s", *counts, "--") if counts else None
    if not newest:
        return f"{none}, nor from any other commit; `dvc exp run --queue -S NAME=VALUE,VALUE` makes some"
    lines = [f"{none}; others have some (newest first):"]
    for line in newest.splitlines()[:MAX_COMMITS]:
        other, short, *subject = line.split(" ", 2)
        number = f"{counts[other]} experiment{'s' if counts[other] > 1 else ''}"
        lines.append(f"  charlstm sweep {short}  # {number} from: {''.join(subject)}")
    return "\n".join(lines)


def _title(commit: str) -> str:
    return git("log", "-1", "--format=%h (%s)", commit) or commit
