"""`charlstm review`: several models in one page, side by side. Each is named by its `review.json`, or by a run."""

import contextlib
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from charlstm.errors import CharlstmError, ParamsError
from charlstm.evaluation.difference import BLOCKS, Blocks, parse_blocks
from charlstm.files.atomic import write_text
from charlstm.report.document import DOCUMENT, ReviewDocument, ReviewedModel, read_review
from charlstm.tracking.client import EXPERIMENT_TAG, RECIPE_TAG
from pipeline.command_output import ForceOption, output_from_here
from pipeline.lineage.git import experiments, find_commit, lock_at
from pipeline.lineage.provenance import recipe_at, recipe_in
from pipeline.lineage.search import find
from pipeline.run.dvc import Paths, cached, files_of, load_paths
from pipeline.run.project import PIPELINE, find_root, from_here
from pipeline.run.terminal import printable
from pipeline.sweep.record import last_sweep

ARTIFACT = f"review/{DOCUMENT}"
BLOCKS_ARTIFACT = f"evaluate/{BLOCKS}"
MAX_ID_CHARS = 8  # of an id or a hash in a label
MAX_LINE_CHARS = 1000  # of what is said of two models


def review(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL...]",
            help="What `charlstm trace` finds, projects, folders of samples, or `review.json` files. One to ten. "
            "Default: the models of the last sweep.",
            show_default=False,
            callback=from_here,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", dir_okay=False, callback=output_from_here, help="The page."),
    ] = Path("review.html"),
    is_forced: ForceOption = False,
) -> int:
    """Put models side by side in one page.

    It begins with whether a model is better than another or may be lucky, which is said here, too. Then come losses,
    curves, the parameters that differ, and texts. It opens in any browser, also offline.
    """
    # Pages and pictures take seconds to import.
    from charlstm.report.comparison import MAX_RUNS, comparison_of, verdicts
    from charlstm.report.page import one_line, page_of

    if not models:
        models = _of_sweep()[:MAX_RUNS]
    if len(models) > MAX_RUNS:
        raise CharlstmError(
            f"expected 1 to {MAX_RUNS} models to review side by side, found {len(models)}"
        )
    reviewed = [_find(name) for name in models]
    if len({model.document.validation_sha256 for model in reviewed}) > 1:
        typer.echo(
            "their losses cannot be compared: they were not measured on the same validation text",
            err=True,
        )
    is_one = len(reviewed) == 1
    page = (
        page_of(reviewed[0].document, recipe=reviewed[0].recipe)
        if is_one
        else comparison_of(reviewed)
    )
    write_text(output, page)
    typer.echo(output)
    for line in verdicts(reviewed):
        typer.echo(printable(one_line(line, MAX_LINE_CHARS), sys.stdout.encoding))
    return 0


def _of_sweep() -> list[str]:
    """Return the names of the last sweep's finished experiments, grouped by value, seeds in order."""
    last = last_sweep()
    finished = {name for name, _ in experiments().values()}
    if last is None or not (names := [name for name in last.names if name in finished]):
        raise CharlstmError(
            "expected the names of models: there is no sweep here; see `charlstm review --help`"
        )
    return names


def _find(model: str) -> ReviewedModel:
    path = Path(model)
    if not path.exists():
        return _of_run(model)
    samples = path / load_paths(path / PIPELINE).samples if (path / PIPELINE).is_file() else path
    file = path if path.is_file() else samples / DOCUMENT
    if not file.is_file():
        raise CharlstmError(
            f"{path}: expected a project, a folder of samples or a {DOCUMENT}, found none; `dvc repro sample` makes one"
        )
    folder = file.resolve().parent
    project = find_root(folder)
    document, tables, recipe = read_review(file), [folder / BLOCKS], None
    if project:
        with (
            contextlib.suppress(ParamsError),
            contextlib.chdir(project),
        ):  # a `dvc.yaml` of something else
            tables.append(project / load_paths().evaluate / BLOCKS)
            recipe = recipe_in(document.parameters)
    blocks = next((_read_blocks(table) for table in tables if table.is_file()), None)
    return ReviewedModel((project or folder).name or str(file), document, blocks, recipe)


def _read_blocks(file: Path) -> Blocks:
    return parse_blocks(file.read_text("utf-8", errors="replace"), file)


def _of_run(model: str) -> ReviewedModel:
    """The review of the newest run that has one, of those that the name stands for; else of a commit or experiment."""
    if not PIPELINE.is_file():
        raise CharlstmError(
            f"{model}: there is no such file or folder; runs and revisions need a project"
        )
    paths, (reader, trainings) = load_paths(), find(model)
    runs = [match.run for match in trainings if match.run]
    for run in runs:
        if not reader or (text := reader.text(run, ARTIFACT)) is None:
            continue
        try:
            document = ReviewDocument.model_validate_json(text)
        except ValueError:  # of another version
            continue
        table = reader.text(run, BLOCKS_ARTIFACT)
        blocks = None if table is None else parse_blocks(table, f"{model}: {BLOCKS_ARTIFACT}")
        label = _name(model if trainings[0].commit else run.tags.get(EXPERIMENT_TAG, model))
        return ReviewedModel(label, document, blocks, run.tags.get(RECIPE_TAG))
    is_experiment = any(run.tags.get(EXPERIMENT_TAG) == model for run in runs)
    for commit in [match.commit for match in trainings] + (
        [find_commit(model)] if is_experiment else []
    ):
        if commit and (found := _of_commit(model, commit, paths)):
            return found
    raise CharlstmError(
        f"{model}: expected a run with {ARTIFACT}, or its samples in DVC's cache, found neither; `dvc pull` brings "
        "them, `dvc repro sample` makes them"
    )


def _of_commit(model: str, commit: str, paths: Paths) -> ReviewedModel | None:
    """The model that `dvc.lock` of a commit names; None if its review is not in DVC's cache."""
    lock = lock_at(commit)
    outs = lock.files("outs") if lock else {}
    file = cached(files_of(outs.get(str(paths.samples), "")).get(DOCUMENT, ""))
    if file is None:
        return None
    table = cached(outs.get(str(paths.evaluate / BLOCKS), ""))
    return ReviewedModel(
        model, read_review(file), _read_blocks(table) if table else None, recipe_at(commit)
    )


def _name(name: str) -> str:
    """A model's name; of ids and hashes only the beginning."""
    return name[:MAX_ID_CHARS] if re.fullmatch(rf"[0-9a-f]{{{MAX_ID_CHARS},64}}", name) else name
