"""`charlstm review`: models side by side on one page, found by `review.json` files or by runs."""

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from charlstm.errors import CharlstmError, ParamsError
from charlstm.evaluation.difference import BLOCKS, Blocks, parse_blocks, read_blocks
from charlstm.files.atomic import write_text
from charlstm.review.document import DOCUMENT, ReviewDocument, ReviewedModel, read_review
from charlstm.tracking.client import RECIPE_TAG, Reader, TrackedRun
from pipeline.arguments import ForceOption, output_path
from pipeline.lineage.git import experiments, lock_at
from pipeline.lineage.provenance import recipe_at, recipe_in
from pipeline.lineage.search import find
from pipeline.run.dvc import cached, files_of, load_paths
from pipeline.run.project import PIPELINE, find_root, from_here
from pipeline.run.terminal import printable
from pipeline.sweep.results import last_sweep

REVIEW_ARTIFACT = f"review/{DOCUMENT}"
BLOCKS_ARTIFACT = f"evaluate/{BLOCKS}"


def review(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL...]",
            help="One to ten models: any names that `charlstm trace` accepts, project folders, or "
            "`review.json` files. Default: the models of the last sweep.",
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
    from charlstm.review.comparison import MAX_RUNS, comparison_of, verdicts
    from charlstm.review.page import page_of

    names = models or _names_in_last_sweep()[:MAX_RUNS]
    if len(names) > MAX_RUNS:
        raise CharlstmError(f"expected 1 to {MAX_RUNS} models to compare, got {len(names)}")
    reviewed = [
        _read_path(Path(name)) if Path(name).exists() else _find_training(name) for name in names
    ]
    if len(reviewed) == 1:
        page = page_of(reviewed[0].document, recipe=reviewed[0].recipe)
    else:
        page = comparison_of(reviewed)
    write_text(output, page)
    typer.echo(output)
    for verdict in verdicts(reviewed):
        typer.echo(printable(verdict))
    return 0


def _names_in_last_sweep() -> list[str]:
    """Return the names of the last sweep's finished experiments, sorted by value, then by seed."""
    sweep = last_sweep()
    finished = {name for name, _ in experiments().values()}
    names = [name for name in sweep.names if name in finished] if sweep else []
    if not names:
        raise CharlstmError(
            "this project has no finished sweep, so name the models to review; see "
            "`charlstm review --help`"
        )
    return names


def _read_path(path: Path) -> ReviewedModel:
    """Return the review in a project, or in a `review.json` file."""
    file = path
    if (path / PIPELINE).is_file():
        file = path / load_paths(path / PIPELINE).samples / DOCUMENT
    document = read_review(file)
    recipe = None
    blocks = None
    project = find_root(file.resolve().parent)
    if project:
        # The `dvc.yaml` may belong to another kind of project.
        with contextlib.suppress(ParamsError), contextlib.chdir(project):
            recipe = recipe_in(document.parameters)
            blocks = _read_blocks(load_paths().evaluate / BLOCKS)
    return ReviewedModel((project or file).name, document, blocks, recipe)


def _find_training(name: str) -> ReviewedModel:
    """Return the review of the newest run, or of the commit or experiment, with this name."""
    if not PIPELINE.is_file():
        raise CharlstmError(
            f"{name}: no such file or folder; to name a run or a revision, run this command in "
            "a project's folder"
        )
    reader, matches = find(name)
    for match in matches:
        if reader and match.run and (reviewed := _read_run(name, reader, match.run)):
            return reviewed
        for commit in match.commits():
            if reviewed := _read_commit(name, commit):
                return reviewed
    raise CharlstmError(
        f"{name}: expected a run with {REVIEW_ARTIFACT}, or samples in DVC's cache, found neither; "
        "download the samples with `dvc pull`, or create them with `dvc repro sample`"
    )


def _read_run(name: str, reader: Reader, run: TrackedRun) -> ReviewedModel | None:
    """Return the model of a run, or None if the run has no review of this version of charlstm."""
    try:
        document = ReviewDocument.model_validate_json(reader.text(run, REVIEW_ARTIFACT) or "")
    except ValueError:
        return None
    table = reader.text(run, BLOCKS_ARTIFACT)
    blocks = parse_blocks(table, f"{name}: {BLOCKS_ARTIFACT}") if table else None
    return ReviewedModel(name, document, blocks, run.tags.get(RECIPE_TAG))


def _read_commit(name: str, commit: str) -> ReviewedModel | None:
    """Return the model that a commit records, or None if DVC's cache lacks the model's review."""
    lock = lock_at(commit)
    paths = load_paths()
    file = cached(files_of(lock.output(paths.samples)).get(DOCUMENT, ""))
    if file is None:
        return None
    blocks = _read_blocks(cached(lock.output(paths.evaluate / BLOCKS)))
    return ReviewedModel(name, read_review(file), blocks, recipe_at(commit))


def _read_blocks(file: Path | None) -> Blocks | None:
    return read_blocks(file) if file and file.is_file() else None
