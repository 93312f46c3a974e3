"""`charlstm sweep`: models trained with several parameter values, compared in a table."""

from statistics import fmean
from typing import Annotated, Any

import typer
from rich.table import Table

from charlstm.errors import CharlstmError
from charlstm.evaluation.difference import (
    RecipeLosses,
    by_recipe,
    compare,
    mean_and_deviation,
)
from charlstm.evaluation.results import HEADLINE
from charlstm.files.documents import did_you_mean
from charlstm.parameter_names import MAX_NAMED, differing, short_name, values_in_words
from pipeline.lineage.git import experiments, find_commit, git
from pipeline.run.dvc import run_dvc
from pipeline.run.stage import EXIT_BAD_INPUT
from pipeline.run.terminal import plain_console
from pipeline.sweep.results import Result, last_sweep, results_of
from pipeline.sweep.run import plan, run_all

CAPTION = (
    "± of a loss: standard deviation over seeds; "
    "± of a difference: half of its 95 % interval over the text, without seeds"
)
MIN_GRID = 3  # with only two values, the best is always at the edge of the grid


def sweep(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE,... | REV]",
            help="Parameters with values to try, or a commit whose experiments to show. "
            "Default: the last sweep.",
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Train each combination with the seeds 1 to N."),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="NAME", help="Apply an experiment to the working tree."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="With --keep: replace uncommitted changes.")
    ] = False,
) -> int:
    """Train with several parameter values, compare the models, and keep the best.

    All values are checked first. Then each combination is trained as a DVC experiment, one after
    the other. After an interruption, the same command resumes. A row of the table is a recipe:
    all models that differ only in the seed.

    `charlstm review` without names compares these models side by side.
    """
    if keep:
        return _keep(keep, force=force)
    failures: list[str] = []
    if seeds or any("=" in word for word in words or []):
        failures = run_all(plan(words or [], seeds))
        words = None
    if results := _results(words[0] if words else None):
        show(results)
    for line in failures:
        typer.echo(line)
    return EXIT_BAD_INPUT if failures else 0


def _keep(name: str, *, force: bool) -> int:
    """Apply an experiment to the working tree, and print how to commit the result."""
    commits = {known: commit for commit, (known, _) in experiments().items()}
    if name not in commits:
        raise CharlstmError(f"{name}: no experiment has this name{did_you_mean(name, commits)}")
    diff = ("diff", "--relative", "--name-only")
    uncommitted = (git(*diff, "HEAD") or "").splitlines()
    replaced = git(*diff, commits[name], "--", *uncommitted) if uncommitted else ""
    if replaced and not force:
        raise CharlstmError(
            f"{name} would replace uncommitted changes in {', '.join(replaced.splitlines())}: "
            "commit them, put them aside with `git stash`, or replace them with --force"
        )
    if run_dvc("exp", "apply", name):
        return EXIT_BAD_INPUT
    typer.echo(f"to commit it: git add params.yaml dvc.lock artifacts; git commit -m '{name}'")
    return 0


def _results(revision: str | None) -> list[Result]:
    if revision is None and (last := last_sweep()):
        return results_of(*last)
    commit = find_commit(revision or "HEAD")
    if commit is None:
        raise CharlstmError(f"{revision}: expected NAME=VALUE,... or a commit, got neither")
    results = results_of(commit)
    if not results:
        raise CharlstmError(
            f"{revision or 'HEAD'}: no experiment started from this commit; run "
            "`charlstm sweep NAME=VALUE,...` first"
        )
    return results


def show(results: list[Result]) -> None:
    """Print a table and verdicts for the models of the most common text."""
    texts = [result.text for result in results]
    text = max(texts, key=texts.count)
    comparable = [result for result in results if result.text == text]
    comparable.sort(key=lambda result: result.seed)
    groups = by_recipe(
        comparable,
        lambda result: repr(sorted(result.params.items())),
        lambda result: result.seed,
    )
    groups.sort(key=lambda group: fmean(result.loss for result in group))
    params = [group[0].params for group in groups]
    varied = sorted(differing(params))
    values = [{name: recipe.get(name) for name in varied} for recipe in params]
    rows = list(map(values_in_words, values))
    trained = []
    for row, group in zip(rows, groups, strict=True):
        is_name = row and rows.count(row) == 1 and len(values[0]) <= MAX_NAMED
        name = row if is_name else " and ".join(result.name for result in group)
        losses = [result.loss for result in group]
        trained.append(RecipeLosses(name, losses, [result.blocks for result in group]))

    differences = compare(trained)
    columns = ("parameters", "seeds", HEADLINE, "above the best")
    table = Table(*columns, title=str(text[0]), caption=CAPTION)
    for row, group, recipe, above in zip(rows, groups, trained, [None, *differences], strict=True):
        seeds = ", ".join(str(result.seed) for result in group)
        distance = above.in_numbers() if above else ""
        table.add_row(row or group[0].name, seeds, mean_and_deviation(recipe.losses), distance)
    plain_console().print(table)

    for line in [*map(str, differences[:3]), *at_the_edge(values)]:
        typer.echo(line)
    best = min(groups[0], key=lambda result: result.loss)
    typer.echo(f"keep the best: charlstm sweep --keep {best.name}")


def at_the_edge(values: list[dict[str, Any]]) -> list[str]:
    """Return advice for each parameter whose best value is the largest or smallest value tried.

    `values` has the parameters of each recipe, the best recipe first.
    """
    lines = []
    for name, best in values[0].items():
        tried = {recipe[name] for recipe in values if isinstance(recipe[name], int | float)}
        edges = {max(tried): "larger", min(tried): "smaller"} if len(tried) >= MIN_GRID else {}
        if best in edges and best != 0:
            lines.append(
                f"{short_name(name)}: the best value, {best}, is at the grid's edge; try "
                f"{edges[best]} values"
            )
    return lines
