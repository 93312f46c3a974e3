"""`charlstm sweep`: the experiments of one commit as a table and a picture; more seeds of one."""

import json
import math
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NamedTuple

import typer
from rich.table import Table

from charlstm.errors import CharlstmError
from charlstm.evaluation.difference import (
    BLOCKS,
    Blocks,
    Trained,
    by_recipe,
    compare,
    mean_and_deviation,
    parse_blocks,
    why_no_interval,
)
from charlstm.evaluation.results import HEADLINE
from charlstm.files.documents import parse_yaml
from charlstm.parameter_names import MAX_NAMED, NOT_OF_A_MODEL, SEED, differing, flatten, short_name, values_in_words
from pipeline.command_output import ForceOption, output_from_here
from pipeline.lineage.git import check_git, git
from pipeline.run.dvc import ask_dvc, cached, load_paths, reason_of, run_dvc
from pipeline.run.project import LOCK, PARAMS
from pipeline.run.terminal import plain_console

PICTURE = Path("sweep.png")
STATES = ("done", "running", "queued", "failed")
OWN = "own"  # the state of the model that one has
MIN_GRID = 3  # values: of two, the better one always is at the edge


class Trial(NamedTuple):
    """A model that was trained or is planned."""

    name: str
    state: str
    recipe: frozenset[tuple[str, Any]]  # all parameters that decide a model of a text, but for the seed
    seed: int
    text: tuple[object, ...]  # its name, the hash of its parts, and how much of them was measured
    loss: float  # NaN if it has none
    blocks: Blocks | None


def sweep(
    revision: Annotated[str, typer.Argument(metavar="REV", help="Where the experiments began.")] = "HEAD",
    output: Annotated[Path, typer.Option("--output", "-o", callback=output_from_here, help="The picture.")] = PICTURE,
    seeds: Annotated[int | None, typer.Option(min=1, max=1000, help="First queue the seeds 1 to this.")] = None,
    is_forced: ForceOption = False,
) -> int:
    """Show a sweep of `dvc exp run --queue`: a table and a picture.

    A row is a recipe: trainings that differ in the seed alone, with the mean ± standard deviation of their losses.
    Below it are whether the best is better than the next ones, and whether it is at the edge of the grid.

    `--seeds N` queues what is missing of the seeds 1 to N of `params.yaml`, and starts the queue. New files stay here.
    """
    results = read_results(revision)
    if seeds and revision != "HEAD":
        raise CharlstmError(f"{revision}: expected HEAD, from which --seeds trains")
    if seeds and (missing := ",".join(map(str, missing_seeds(seeds, results)))):
        return run_dvc("exp", "run", "--queue", "-S", f"{SEED}={missing}") or run_dvc("queue", "start")
    experiments = [one for one in results if one.state != OWN]
    if not experiments:
        check_git()
        raise CharlstmError(f"{revision}: no experiment began from it; `dvc exp list -A` names those of other commits")
    names = {state: [one.name for one in results if one.state == state] for state in STATES}
    typer.echo(", ".join(f"{len(found)} {state}" for state, found in names.items()))
    if names["failed"]:
        typer.echo(f"failed: {', '.join(names['failed'])} (`dvc queue logs NAME` says why)")
    for alike in measured(results):
        show(alike, output)
    return 0


def read_results(revision: str) -> list[Trial]:
    """What is in the working tree, if `revision` is HEAD, and in the commit itself; then the experiments from there."""
    done = ask_dvc("exp", "show", "--json", "--rev", revision)
    if done.returncode:
        raise CharlstmError(f"{revision}: {reason_of(done)}")
    workspace, commit = json.loads(done.stdout)[:2]
    results = [_result(revision, OWN, commit, git("show", f"{commit['rev']}:./{LOCK}"))]
    if revision == "HEAD":
        results.insert(0, _result("workspace", OWN, workspace, LOCK.read_text("utf-8") if LOCK.exists() else None))
    for one in commit["experiments"] or []:
        state = (one["executor"] or {}).get("state", "success").replace("success", "done")
        results.append(_result(one["name"], state, one["revs"][0]))
    return results


def _result(name: str, state: str, shown: dict[str, Any], lock: str | None = None) -> Trial:
    data, evaluated = shown["data"] or {}, load_paths().evaluate
    values = flatten(data.get("params", {}).get(str(PARAMS), {}).get("data", {}))
    params = {key: value for key, value in values.items() if not key.startswith((*NOT_OF_A_MODEL, "download."))}
    recorded: dict[str, Any] = {}
    for stage in (parse_yaml(lock or "{}") or {}).get("stages", {}).values():
        recorded |= flatten(stage.get("params", {}).get(str(PARAMS), {}))
    is_current = all(params[key] == value for key, value in recorded.items() if key in params)  # not edited since
    seed = params.pop(SEED, 0)
    recipe = frozenset((key, str(value) if isinstance(value, list) else value) for key, value in params.items())
    metrics = data.get("metrics", {}).get(str(evaluated / "metrics.json"), {}).get("data", {}).get(HEADLINE, {})
    loss = metrics.get("nats_per_char", math.nan) if state in ("done", OWN) and is_current else math.nan
    hashes = {path: found["hash"] or "" for path, found in data.get("outs", {}).items()}
    table = cached(hashes.get(str(evaluated / BLOCKS), ""))
    blocks = parse_blocks(table.read_text("utf-8"), table) if table else None
    text = (values.get("download.name"), hashes.get(str(load_paths().split)), values.get("evaluate.max_chars"))
    return Trial(name, state, recipe, seed, text, loss, blocks)


def measured(results: list[Trial]) -> list[list[Trial]]:
    """What has a loss, by text, the most last; one's own model only where nothing else has its parameters and seed."""
    by_text: dict[object, list[Trial]] = {}
    for one in sorted(results, key=lambda one: one.state == OWN):
        alike = by_text.setdefault(one.text, [])
        is_there = (one.recipe, one.seed) in [(other.recipe, other.seed) for other in alike]
        if not math.isnan(one.loss) and not (one.state == OWN and is_there):
            alike.append(one)
    return sorted(filter(None, by_text.values()), key=len)


def missing_seeds(number: int, results: list[Trial]) -> list[int]:
    """The seeds 1 to `number` that neither were nor will be trained with the parameters of the working tree."""
    there = [one for one in results if one.state not in ("failed", OWN) or not math.isnan(one.loss)]
    seeds = {one.seed for one in there if (one.recipe, one.text) == (results[0].recipe, results[0].text)}
    return [seed for seed in range(1, number + 1) if seed not in seeds]


def show(results: list[Trial], output: Path) -> None:
    """A table, a picture, and what the differences are worth; all were measured on the same text."""
    from charlstm.evaluation.plots import plot_sweep  # pictures take seconds to import

    recipes = by_recipe(results, lambda one: one.recipe, lambda one: one.seed)
    recipes.sort(key=lambda alike: fmean(one.loss for one in alike))
    params = [dict(alike[0].recipe) for alike in recipes]
    values = [{name: one.get(name) for name in sorted(differing(params))} for one in params]
    words, groups = [values_in_words(one) for one in values], []
    for word, alike in zip(words, recipes, strict=True):
        is_name = words.count(word) == 1 and len(values[0]) <= MAX_NAMED
        name = word if is_name else " and ".join(one.name for one in alike)
        groups.append(Trained(name, [one.loss for one in alike], [one.blocks for one in alike]))
    differences = compare(groups)
    table = Table("parameters", "experiments", "seeds", HEADLINE, "above the best", title=str(results[0].text[0]))
    for word, alike, group, above in zip(words, recipes, groups, [None, *differences], strict=True):
        numbers = (str(len(alike)), mean_and_deviation(group.losses), above.in_numbers() if above else "")
        table.add_row(word or "the same in all", ", ".join(one.name for one in alike), *numbers)
    plain_console().print(table)
    for line in [*differences[:3], *why_no_interval(groups), *at_the_edge(values)]:
        typer.echo(line)
    plot_sweep(output, values, [group.losses for group in groups], [None, *(one.by_text for one in differences)])
    typer.echo(f"the loss over each parameter: {output}")


def at_the_edge(values: list[dict[str, Any]]) -> list[str]:
    """The parameters whose best value is the largest or smallest that was tried. `values[0]` is the best recipe."""
    lines = []
    for name, best in values[0].items():
        tried = {one[name] for one in values if isinstance(one[name], int | float)}
        edges = {max(tried): "larger", min(tried): "smaller"} if len(tried) >= MIN_GRID else {}
        if best in edges and best != 0:
            lines.append(f"{short_name(name)}: the best value, {best}, is at the grid's edge; try {edges[best]} ones")
    return lines
