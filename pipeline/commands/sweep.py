"""`charlstm sweep`: the experiments of one commit, what became of each, as a table and a picture; more seeds of one."""

import json
import logging
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from charlstm.errors import CharlstmError
from charlstm.evaluation.difference import Trained, by_recipe, compare, mean_and_deviation, why_no_interval
from charlstm.evaluation.published import TEST_PREFIX
from charlstm.files.documents import parse_yaml
from charlstm.params import load_params
from charlstm.report.document import PROTOCOL
from charlstm.sections import MAX_NAMED, NOT_OF_A_MODEL, SEED, differing, short_name, shown, values_in_words
from pipeline.commands.review import blocks_at
from pipeline.dvc.paths import Paths, load_paths
from pipeline.dvc.queue import FAILED, STATES, Queue, Task, read_queue, run_dvc, wait_for_idle_worker
from pipeline.lineage.search import experiments, find_commit, lock_at, losses_at
from pipeline.provenance.git import git
from pipeline.provenance.summary import flat, flat_in, losses_of
from pipeline.stage.project import PARAMS, output_from_here
from pipeline.stage.terminal import plain_console

log = logging.getLogger("charlstm")

OF_THE_TEXT = ("download.", "split.", "encode.", "evaluate.max_chars")  # losses of different texts are not compared
NAME = "download.name"
MAX_DIFFERENCES = 3
MAX_COMMITS = 10
MAX_WIDTH = 1000  # characters, to measure a table
MAX_SEEDS = 1000
STAGE_FAILED = 255  # DVC's exit code for it


def sweep(
    revision: Annotated[
        str, typer.Argument(metavar="REV", help="The commit that the experiments began from.")
    ] = "HEAD",
    output: Annotated[
        Path, typer.Option("--output", "-o", dir_okay=False, callback=output_from_here, help="The picture.")
    ] = Path("sweep.png"),
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=MAX_SEEDS, help="First train `params.yaml` with the seeds 1 to N."),
    ] = None,
) -> int:
    """Show a sweep of `dvc exp run --queue`: a table and a picture.

    The first line counts what is done, runs, waits and failed. The table has the parameters that differ and all losses,
    the best first. The picture has the loss over each of the parameters. All are of the experiments that began from one
    commit. If there are none, it says which other commits have some.

    Where experiments differ in `train.seed` alone, a second table has the mean of their losses, ± the deviation of a
    sample. The commit's own result is one of them, if it has the same parameters.

    `--seeds N` trains the seeds 1 to N of what `params.yaml` says, but for those that are there already. It puts them
    into DVC's queue, runs the whole queue, and waits for it. After Ctrl-C, the queue goes on. As at every
    `dvc exp run`, changes that are not committed go along, but for new files. Those in `params.yaml` make
    another recipe, whose seeds are all missing. Those in code are not noticed here, so commit them first. If a seed
    failed, the exit code is 255, as DVC's.
    """
    commit = find_commit(revision)
    if commit is None:
        raise CharlstmError(f"{revision}: expected a commit, branch or tag, found none of that name")
    wanted = load_wanted(revision, commit) if seeds else {}
    if seeds and (code := train_seeds(commit, wanted, seeds)):
        return code
    queue, console = read_queue(), plain_console(soft_wrap=True)
    here = queue._replace(tasks=[task for task in queue.tasks if task.baseline == commit])
    done = read_experiments(commit)
    measured = [one for one in done if one.losses]
    measured += siblings(committed_result(commit), [*(one.params for one in measured), wanted])
    if not (here.tasks or done or measured):
        raise CharlstmError(_none_began(revision, commit, queue))
    console.print(*status_lines(commit, here, done), sep="\n")
    if measured:
        _show_all(measured, output)
    elif not here.tasks:
        raise CharlstmError(f"{revision}: expected experiments with losses, found {len(done)} without: no picture")
    is_missing = seeds and missing_seeds(seeds, wanted, [one.params for one in measured])
    return STAGE_FAILED if is_missing else 0


# The losses.


class Experiment(NamedTuple):
    """An experiment that is done: its parameters by dotted name, its losses by protocol, and its commit."""

    name: str
    params: dict[str, str]
    losses: dict[str, float]
    commit: str

    @property
    def recipe(self) -> frozenset[tuple[str, str]]:
        """All parameters that decide a loss, but for the seed."""
        return _without_seed(self.params)

    @property
    def seed(self) -> str | None:
        """Of its training."""
        return self.params.get(SEED)


def read_experiments(commit: str) -> list[Experiment]:
    """The DVC experiments that began from a commit, as git has them.

    Losses are those of whole evaluations of the validation part.
    """
    paths, began = load_paths(), experiments()
    return [_experiment_at(one, name, paths) for one, (name, baseline) in began.items() if baseline == commit]


def committed_result(commit: str) -> list[Experiment]:
    """The result in a commit itself, named by its short hash; none if it is of other parameters than `params.yaml`."""
    name, lock = git("log", "-1", "--format=%h", commit) or commit, lock_at(commit)
    result = _experiment_at(commit, name, load_paths())
    recorded = flat(lock.params()) if lock else {}
    is_of_params = SEED in recorded and all(is_same_value(result.params.get(one), recorded[one]) for one in recorded)
    return [result] if is_of_params and result.losses else []


def is_same_value(value: str | None, other: str | None) -> bool:
    """Whether two parameters are the same, which may be written in two ways: a lock has 0 where `Params` has 0.0."""

    def parsed(text: str) -> object:
        try:
            return json.loads(text)
        except ValueError:
            return text

    return value == other or (value is not None and other is not None and parsed(value) == parsed(other))


def _experiment_at(commit: str, name: str, paths: Paths) -> Experiment:
    losses = losses_of(losses_at(commit, paths))
    of_validation = {name: loss for name, loss in losses.items() if not name.startswith(TEST_PREFIX)}
    return Experiment(name, _params_at(commit), of_validation, commit)


def varied_params(params: Sequence[Mapping[str, str]]) -> list[str]:
    """The parameters that are not the same everywhere, of those that decide a loss."""
    return [name for name in differing(params) if _decides_a_loss(name) and not name.startswith("download.")]


def _decides_a_loss(name: str) -> bool:
    """Whether a parameter decides the model or its text. More protocols and samples are views of the same model."""
    return name.startswith(OF_THE_TEXT) or not name.startswith(NOT_OF_A_MODEL)


def by_text(measured: Sequence[Experiment]) -> dict[str, list[Experiment]]:
    """Experiments by the text that they were measured on, in words: its name, and what else differs of it."""
    of_the_text = [name for name in differing([one.params for one in measured]) if name.startswith(OF_THE_TEXT)]
    more = [name for name in of_the_text if not name.startswith("download.")]
    groups: dict[tuple[str, ...], list[Experiment]] = {}
    for one in measured:
        groups.setdefault(tuple(one.params.get(name, "") for name in of_the_text), []).append(one)
    named: dict[str, list[Experiment]] = {}
    for number, group in enumerate(groups.values(), 1):
        params = group[0].params
        words = ", ".join([params.get(NAME, ""), *(f"{name} {shown(params.get(name, ''))}" for name in more)])
        named[f"{words} ({number})" if words in named else words] = group
    return named


def _show_all(measured: Sequence[Experiment], output: Path) -> None:
    """A table for each text, and a picture of the one with the most experiments."""
    groups = by_text(measured)
    if len(groups) == 1:
        _show_losses(measured, output)
        return
    most = max(groups, key=lambda text: len(groups[text]))
    for text, group in groups.items():
        _show_losses(group, output if text == most else None, text)


def _show_losses(measured: Sequence[Experiment], output: Path | None, text: str = "") -> None:
    """Tables, a picture if there is a file for it, and what the differences are worth: all are of one text."""
    from charlstm.evaluation.plots import plot_sweep  # pictures take seconds to import

    protocols = sorted(set.intersection(*(set(one.losses) for one in measured)))
    measured = sorted(measured, key=lambda one: one.losses[PROTOCOL])
    varied = varied_params([one.params for one in measured])
    values = {short_name(name): [one.params.get(name, "") for one in measured] for name in varied}
    number = "1 experiment" if len(measured) == 1 else f"{len(measured)} experiments"
    console = plain_console()
    rows = [
        Row([one.name], [one.params.get(name, "") for name in varied], [f"{one.losses[by]:.4f}" for by in protocols])
        for one in measured
    ]
    title = f"{number}{text and f' on {text}'} (nats per character; the best by {PROTOCOL} first)"
    print_table(console, title, Row(["experiment"], list(map(short_name, varied)), protocols), rows)
    recipes = recipes_of(measured)
    if any(len(recipe) > 1 for recipe in recipes):
        _print_over_seeds(console, recipes, protocols)
    for line in [*repeated_seeds(recipes), *verdicts(recipes)]:
        console.print(line, soft_wrap=True)
    if output:
        plot_sweep(output, values, [one.losses[PROTOCOL] for one in measured], f"{PROTOCOL} (nats per character)")
        console.print(f"the loss over each parameter{text and f', on {text}'}: {output}", soft_wrap=True)


class Row(NamedTuple):
    """Cells of a table of losses."""

    names: Sequence[str]
    params: Sequence[str]
    losses: Sequence[str]


def print_table(console: Console, title: str, head: Row, rows: Sequence[Row]) -> None:
    """Print a table. Where it is too wide, the parameters share a column: names and losses are never cut."""
    table = _table(title, head, rows)
    if console.measure(table, options=console.options.update(width=MAX_WIDTH)).maximum > console.width:
        joined = [", ".join(map(" ".join, zip(head.params, row.params, strict=True))) for row in rows]
        rows = [row._replace(params=[words]) for row, words in zip(rows, joined, strict=True)]
        table = _table(title, head._replace(params=["parameters"]), rows)
    console.print(table)


def _table(title: str, head: Row, rows: Sequence[Row]) -> Table:
    table = Table(title=title)
    for part, columns in head._asdict().items():
        for column in columns:
            table.add_column(column, no_wrap=part != "params", overflow="fold")
    for row in rows:
        table.add_row(*row.names, *row.params, *row.losses)
    return table


# Seeds.


def recipes_of(measured: Sequence[Experiment]) -> list[list[Experiment]]:
    """Experiments that differ in the seed alone, together. Of those that have the same loss, too, one counts."""
    different: dict[tuple[object, ...], Experiment] = {}
    for one in measured:
        different.setdefault((one.recipe, one.seed, one.losses[PROTOCOL]), one)
    return by_recipe(different.values(), lambda one: one.recipe, lambda one: one.seed)


def repeated_seeds(recipes: Sequence[Sequence[Experiment]]) -> list[str]:
    """Why experiments of the same parameters are not averaged: the same seed had several losses."""
    names: dict[object, list[str]] = {}
    for one, *others in recipes:
        if not others:
            names.setdefault((one.recipe, one.seed), []).append(one.name)
    return [
        f"{' and '.join(same)} have the same parameters and seed, and other losses. The code or the machine differed, "
        "so no mean is taken over their seeds (`dvc exp remove NAME` removes one)"
        for same in names.values()
        if len(same) > 1
    ]


def siblings(committed: Sequence[Experiment], others: Sequence[Mapping[str, str]]) -> list[Experiment]:
    """Of the results in a commit, those that differ from `others` in the seed alone, and have another than them all."""
    found = []
    for one in committed:
        seeds = [params.get(SEED) for params in others if _without_seed(params) == one.recipe]
        if seeds and one.seed not in seeds:
            found.append(one)
    return found


def missing_seeds(number: int, wanted: Mapping[str, str], there: Iterable[Mapping[str, str]]) -> list[int]:
    """The seeds 1 to `number` with which the parameters `wanted` are not `there`."""
    same = _without_seed(wanted)
    seeds = {params.get(SEED) for params in there if _without_seed(params) == same}
    return [seed for seed in range(1, number + 1) if str(seed) not in seeds]


def load_wanted(revision: str, commit: str) -> dict[str, str]:
    """What `params.yaml` says here, by dotted name, but for the seed.

    Raises:
        CharlstmError: `commit` is not the one that experiments would begin from.
        ParamsError: it has mistakes.
    """
    if commit != find_commit("HEAD"):
        raise CharlstmError(
            f"{revision}: expected HEAD, from which --seeds trains; `git checkout` goes to another commit"
        )
    initial = f"{load_params(PARAMS).train.initial}.dvc"
    if git("ls-files", "--others", "--exclude-standard", "--", initial):
        raise CharlstmError(f"{initial}: training needs it, and DVC's experiments take no new file along: `git add` it")
    wanted = flat_in(PARAMS.read_text(encoding="utf-8"))
    return {name: value for name, value in wanted.items() if name != SEED}


def train_seeds(commit: str, wanted: Mapping[str, str], number: int) -> int:
    """Train what is missing of the seeds 1 to `number`, from HEAD, which is `commit`; DVC's exit code."""
    results = [*read_experiments(commit), *committed_result(commit)]
    done = [one.params for one in results if one.losses]
    tasks = [task for task in read_queue().tasks if task.baseline == commit and task.state != FAILED]
    begun = [_params_at(task.revision) for task in tasks]
    code = 0
    if new := missing_seeds(number, wanted, [*done, *begun]):
        wait_for_idle_worker()
        code = run_dvc("exp", "run", "--queue", "-S", f"{SEED}={','.join(map(str, new))}")
    if not code and missing_seeds(number, wanted, done):
        code = run_dvc("exp", "run", "--run-all")
    return code


def _without_seed(params: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in params.items() if name != SEED and _decides_a_loss(name))


def _print_over_seeds(console: Console, recipes: Sequence[Sequence[Experiment]], protocols: Sequence[str]) -> None:
    """A row for each of `recipes`, by the mean loss."""
    varied = [name for name in varied_params([recipe[0].params for recipe in recipes]) if name != SEED]
    rows = []
    for recipe in sorted(recipes, key=lambda recipe: statistics.fmean(one.losses[PROTOCOL] for one in recipe)):
        values = [recipe[0].params.get(name, "") for name in varied]
        losses = [mean_and_deviation([one.losses[by] for one in recipe]) for by in protocols]
        rows.append(Row([], values, [str(len(recipe)), *losses]))
    title = f"the same over seeds (mean ± deviation of a sample; the best by {PROTOCOL} first)"
    print_table(console, title, Row([], list(map(short_name, varied)), ["seeds", *protocols]), rows)


def verdicts(recipes: Sequence[Sequence[Experiment]]) -> list[str]:
    """Whether the best of several recipes is better than the next ones, or was lucky: see docs/review.md."""
    if len(recipes) < 2:
        return []
    paths, params = load_paths(), [recipe[0].params for recipe in recipes]
    named = [name for name in varied_params(params) if name != SEED]
    words = [values_in_words({name: one.get(name, "") for name in named}) for one in params]
    groups = [
        Trained(
            word if words.count(word) == 1 else " and ".join(one.name for one in recipe),
            [one.losses[PROTOCOL] for one in recipe],
            [blocks_at(one.commit, paths) for one in recipe],
        )
        for word, recipe in zip(words, recipes, strict=True)
    ]
    nearest = sorted(compare(groups), key=lambda one: one.nats_per_char)[:MAX_DIFFERENCES]
    return [f"by {PROTOCOL}: {one}" for one in nearest] + why_no_interval(groups)


# What runs, waits and failed.


def status_lines(commit: str, queue: Queue, done: Sequence[Experiment]) -> list[str]:
    """How many are done, run, wait and failed, which ones run and failed, and what to do about those that do not move.

    Each is named by what differs between all of them, those that are done, and the commit.
    """
    running, waiting, failed = ([task for task in queue.tasks if task.state == state] for state in STATES)
    names = {one.name for one in done}
    failed = [task for task in failed if task.name not in names]  # queued again, and done
    num_done = len(names - {task.name for task in (*running, *waiting)})
    counts = f"{num_done} done, {len(running)} running, {len(waiting)} waiting, {len(failed)} failed"
    own = {task: _params_at(task.revision) for task in queue.tasks}
    others = [one.params for one in done]
    columns = [params for params in (*others, *own.values(), _params_at(commit)) if params] if queue.tasks else []
    varied = varied_params(columns)[:MAX_NAMED]

    def labels(tasks: Sequence[Task]) -> str:
        words = [values_in_words({name: own[task][name] for name in varied if name in own[task]}) for task in tasks]
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
    """A commit's parameters by dotted name; those of another version as they stand there."""
    text = git("show", f"{commit}:./{PARAMS}") or ""
    try:
        return flat_in(text) or flat(parse_yaml(text))
    except (ValueError, AttributeError):  # no YAML, or no mapping
        return {}


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
        other, digits, *subject = line.split(" ", 2)
        number = f"{counts[other]} experiment{'s' if counts[other] > 1 else ''}"
        lines.append(f"  charlstm sweep {digits}  # {number} from: {''.join(subject)}")
    return "\n".join(lines)


def _title(commit: str) -> str:
    return git("log", "-1", "--format=%h (%s)", commit) or commit
