"""`charlstm sweep`: train several values of parameters, compare them, keep the best."""

from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer
from rich.table import Table

from charlstm.errors import CharlstmError
from charlstm.evaluation.difference import (
    RecipeLosses,
    by_recipe,
    compare_neighbors,
    mean_and_deviation,
)
from charlstm.evaluation.results import HEADLINE
from charlstm.files.documents import did_you_mean
from charlstm.parameter_names import MAX_NAMED, differing, short_name, values_in_words
from pipeline.command_output import ForceOption, output_from_here
from pipeline.lineage.git import experiments, find_commit
from pipeline.run.dvc import run_dvc
from pipeline.run.stage import EXIT_BAD_INPUT
from pipeline.run.terminal import plain_console
from pipeline.sweep.plan import plan
from pipeline.sweep.record import last_sweep
from pipeline.sweep.results import OWN, Result, results_of
from pipeline.sweep.run import run_all, seconds_of_training

PICTURE = Path("sweep.png")
CAPTION = "± of a loss: deviation of the seeds; ± of a difference: 95 % interval over the text, without seeds"
MIN_GRID = 3  # values: of two, the better one always is at the edge


def sweep(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE,... | REV]",
            help="Parameters with values to try; or a commit, to show its experiments. Default: the last sweep.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Train each with the seeds 1 to this.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", metavar="NAME", help="Put an experiment into the working tree."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", callback=output_from_here, help="The picture.")
    ] = PICTURE,
    is_forced: ForceOption = False,
) -> int:
    """Train several values of parameters, compare them, keep the best.

    All values are checked first. Then each combination is trained, one after the other, as a DVC experiment. The same
    command goes on after an interruption. A row of the table is a recipe: trainings that differ in the seed alone.

    `charlstm review` without names puts these models side by side.
    """
    if keep:
        return _keep(keep)
    failures: list[str] = []
    if seeds or any("=" in word for word in words or []):
        trials = plan(words or [], seeds)
        failures = run_all(trials, seconds_of_training(trials))
        words = None
    found = _results(words[0] if words else None)
    if found:
        show(found, output)
    for line in failures:
        typer.echo(line)
    return EXIT_BAD_INPUT if failures else 0


def _keep(name: str) -> int:
    """Apply an experiment. Say how to commit it."""
    names = [known for known, _ in experiments().values()]
    if name not in names:
        raise CharlstmError(
            f"{name}: there is no experiment of this name{did_you_mean(name, names)}"
        )
    if code := run_dvc("exp", "apply", name):
        return code
    typer.echo(f"to commit it: git add params.yaml dvc.lock artifacts; git commit -m '{name}'")
    return 0


def _results(revision: str | None) -> list[Result]:
    if revision is None and (last := last_sweep()):
        return results_of(*last)
    commit = find_commit(revision or "HEAD")
    if commit is None:
        raise CharlstmError(f"{revision}: expected NAME=VALUE,... or a commit, found neither")
    if not (found := results_of(commit)):
        advice = "`charlstm sweep NAME=VALUE,...` runs some"
        raise CharlstmError(f"{revision or 'HEAD'}: no experiment began from it; {advice}")
    return found


def show(results: list[Result], output: Path) -> None:
    """Show a table, a picture, and what the differences are worth, for models of the text that most have."""
    from charlstm.evaluation.plots import plot_sweep  # pictures take seconds to import

    texts = [one.text for one in results]
    text = max(texts, key=texts.count)
    alike = [one for one in results if one.text == text]
    groups = by_recipe(alike, lambda one: repr(sorted(one.params.items())), lambda one: one.seed)
    groups = sorted((sorted(group, key=lambda one: one.seed) for group in groups), key=_mean_loss)
    params = [group[0].params for group in groups]
    values = [{name: one.get(name) for name in sorted(differing(params))} for one in params]
    rows = [values_in_words(one) for one in values]
    trained = []
    for row, group in zip(rows, groups, strict=True):
        is_name = rows.count(row) == 1 and len(values[0]) <= MAX_NAMED
        name = row if row and is_name else " and ".join(one.name for one in group)
        trained.append(
            RecipeLosses(name, [one.loss for one in group], [one.blocks for one in group])
        )
    differences = compare_neighbors(trained)
    table = Table(
        "parameters", "seeds", HEADLINE, "above the row before", title=str(text[0]), caption=CAPTION
    )
    for row, group, one, above in zip(rows, groups, trained, [None, *differences], strict=True):
        seeds = ", ".join(str(result.seed) for result in group)
        distance = above.in_numbers() if above else ""
        table.add_row(row or group[0].name, seeds, mean_and_deviation(one.losses), distance)
    plain_console().print(table)
    for line in [*map(str, differences[:3]), *at_the_edge(values)]:
        typer.echo(line)
    best = min(groups[0], key=lambda one: (one.name == OWN, one.loss)).name
    typer.echo(
        "the best is in this checkout"
        if best == OWN
        else f"keep the best: charlstm sweep --keep {best}"
    )
    plot_sweep(
        output,
        values,
        [one.losses for one in trained],
        [None, *(one.by_text for one in differences)],
    )
    typer.echo(f"the loss over each parameter: {output}")


def _mean_loss(group: list[Result]) -> float:
    return fmean(one.loss for one in group)


def at_the_edge(values: list[dict[str, Any]]) -> list[str]:
    """Return the parameters whose best value is the largest or smallest tried; `values[0]` is the best recipe."""
    lines = []
    for name, best in values[0].items():
        tried = {one[name] for one in values if isinstance(one[name], int | float)}
        edges = {max(tried): "larger", min(tried): "smaller"} if len(tried) >= MIN_GRID else {}
        if best in edges and best != 0:
            lines.append(
                f"{short_name(name)}: the best value, {best}, is at the grid's edge; try {edges[best]} ones"
            )
    return lines
