"""`charlstm review`: models side by side on one page, found by `review.json` files or by runs."""

import contextlib
import re
from pathlib import Path
from typing import Annotated

import typer

from charlstm.errors import CharlstmError, ParamsError
from charlstm.evaluation.difference import BLOCKS, parse_blocks, read_blocks
from charlstm.files.atomic import write_text
from charlstm.report.document import DOCUMENT, ReviewDocument, ReviewedModel, read_review
from charlstm.tracking.client import EXPERIMENT_TAG, RECIPE_TAG
from pipeline.arguments import ForceOption, output_path
from pipeline.lineage.git import experiments, find_commit, lock_at
from pipeline.lineage.provenance import recipe_at, recipe_in
from pipeline.lineage.search import find
from pipeline.run.dvc import Paths, cached, files_of, load_paths
from pipeline.run.project import PIPELINE, find_root, from_here
from pipeline.run.terminal import printable
from pipeline.sweep.results import last_sweep

ARTIFACT = f"review/{DOCUMENT}"
BLOCKS_ARTIFACT = f"evaluate/{BLOCKS}"
MAX_ID_CHARS = 8  # maximum length of an ID or a hash in a label
MAX_LINE_CHARS = 1000  # maximum length of a printed verdict on two models


def review(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL...]",
            help="One to ten models: any names that `charlstm trace` accepts, project folders, "
            "folders of samples, or `review.json` files. Default: the models of the last sweep.",
            callback=from_here,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", dir_okay=False, callback=output_path, help="Page to write."),
    ] = Path("review.html"),
    force: ForceOption = False,
) -> int:
    """Compare models side by side on one page.

    The page begins with a verdict: is a model better than another, or may the difference be chance?
    The verdict is also printed. Losses, curves, differing parameters and texts follow. The page
    opens in any browser, also offline.
    """
    # Import here, because the modules for pages and pictures take seconds to import.
    from charlstm.report.comparison import MAX_RUNS, comparison_of, verdicts
    from charlstm.report.page import one_line, page_of

    models = models or _of_sweep()[:MAX_RUNS]
    if len(models) > MAX_RUNS:
        raise CharlstmError(f"expected 1 to {MAX_RUNS} models to compare, got {len(models)}")
    reviewed = [_find(name) for name in models]
    if len({model.document.validation_sha256 for model in reviewed}) > 1:
        typer.echo(
            "the losses cannot be compared: they were measured on different validation texts",
            err=True,
        )
    if len(reviewed) == 1:
        page = page_of(reviewed[0].document, recipe=reviewed[0].recipe)
    else:
        page = comparison_of(reviewed)
    write_text(output, page)
    typer.echo(output)
    for line in verdicts(reviewed):
        typer.echo(printable(one_line(line, MAX_LINE_CHARS)))
    return 0


def _of_sweep() -> list[str]:
    """Return the names of the last sweep's finished experiments, sorted by value, then by seed."""
    last = last_sweep()
    finished = {name for name, _ in experiments().values()}
    names = [name for name in last.names if name in finished] if last else []
    if not names:
        raise CharlstmError(
            "this project has no finished sweep, so name the models to review; see "
            "`charlstm review --help`"
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
            f"{path}: expected a project, a folder of samples or a {DOCUMENT} file, found none of "
            "them; create the samples with `dvc repro sample`"
        )

    folder = file.resolve().parent
    project = find_root(folder)
    document = read_review(file)
    tables = [folder / BLOCKS]
    recipe = None
    if project:
        # The `dvc.yaml` may belong to another kind of project.
        with contextlib.suppress(ParamsError), contextlib.chdir(project):
            tables.append(project / load_paths().evaluate / BLOCKS)
            recipe = recipe_in(document.parameters)
    blocks = next((read_blocks(table) for table in tables if table.is_file()), None)
    return ReviewedModel((project or folder).name or str(file), document, blocks, recipe)


def _of_run(model: str) -> ReviewedModel:
    """Return the review of the newest run, or of the commit or experiment, with this name."""
    if not PIPELINE.is_file():
        raise CharlstmError(
            f"{model}: no such file or folder; to name a run or a revision, run this command in "
            "a project's folder"
        )
    paths = load_paths()
    reader, trainings = find(model)
    for run, _ in trainings:
        if reader is None or run is None or (text := reader.text(run, ARTIFACT)) is None:
            continue
        try:
            document = ReviewDocument.model_validate_json(text)
        except ValueError:  # another version of charlstm wrote this review
            continue
        table = reader.text(run, BLOCKS_ARTIFACT)
        blocks = None if table is None else parse_blocks(table, f"{model}: {BLOCKS_ARTIFACT}")
        label = _short(model if trainings[0].commit else run.tags.get(EXPERIMENT_TAG, model))
        return ReviewedModel(label, document, blocks, run.tags.get(RECIPE_TAG))

    for commit in (*(match.commit for match in trainings), find_commit(model)):
        if commit and (found := _of_commit(model, commit, paths)):
            return found
    raise CharlstmError(
        f"{model}: expected a run with {ARTIFACT}, or samples in DVC's cache, found neither; "
        "download the samples with `dvc pull`, or create them with `dvc repro sample`"
    )


def _of_commit(model: str, commit: str, paths: Paths) -> ReviewedModel | None:
    """Return the model that a commit records, or None if DVC's cache lacks the model's review."""
    lock = lock_at(commit)
    file = cached(files_of(lock.output(paths.samples)).get(DOCUMENT, ""))
    if file is None:
        return None
    table = cached(lock.output(paths.evaluate / BLOCKS))
    blocks = read_blocks(table) if table else None
    return ReviewedModel(model, read_review(file), blocks, recipe_at(commit))


def _short(name: str) -> str:
    """Return a label for a model: its name, cut to a few characters if it is an ID or a hash."""
    is_hash = re.fullmatch(rf"[0-9a-f]{{{MAX_ID_CHARS},64}}", name)
    return name[:MAX_ID_CHARS] if is_hash else name
