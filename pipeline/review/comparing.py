"""What `charlstm review` does: find the `review.json` of each model that is named, and write one page of all."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar

from charlstm.errors import LineageError, ReviewError, TrackingError
from charlstm.files.atomic import write_text
from charlstm.report.comparison import check_number, comparison_of, differences
from charlstm.report.document import DOCUMENT, ReviewDocument, read_review
from charlstm.report.page import page_of
from charlstm.tracking.reader import TrackedRun
from pipeline.dvc.paths import Paths, load_paths
from pipeline.dvc.record import cached, files_of
from pipeline.lineage.revisions import lock_at
from pipeline.lineage.search import find
from pipeline.lineage.traces import recipe_label
from pipeline.lineage.tracing import open_reader
from pipeline.provenance.git import git
from pipeline.provenance.hashes import folder_md5
from pipeline.provenance.provenance import EXPERIMENT, LINEAGE

ARTIFACT, PARAMS_ARTIFACT = f"review/{DOCUMENT}", f"{LINEAGE}/sample/params.yaml"
MAX_ID_CHARS = 8  # of an id or a hash in a label
Content = TypeVar("Content")


class Reviewed(NamedTuple):
    """A model by a short name, its review, and its recipe if that is known."""

    name: str
    document: ReviewDocument
    recipe: str | None


def write_review(models: Sequence[str], output: Path) -> None:
    """Write `output` from the models: projects, folders of samples, files, runs, revisions. One has a page of its own.

    Raises:
        ReviewError: one is none of these or damaged, or there are none, or too many for one page.
        LineageError: nothing has that name.
    """
    check_number(len(models))
    found = [_find(model) for model in models]
    if len(found) == 1:
        write_text(output, page_of(found[0].document, recipe=found[0].recipe))
        return
    documents = [one.document for one in found]
    differ = differences(documents, [one.recipe for one in found])
    labels = [
        " \N{MIDDLE DOT} ".join(filter(None, (one.name, words))) for one, words in zip(found, differ, strict=True)
    ]
    write_text(output, comparison_of(list(zip(_numbered(labels), documents, strict=True))))


def find_review(source: Path) -> Path | None:
    """The `review.json` of a project, of a folder of samples, or itself; None if there is none."""
    candidates = [source] if source.is_file() else [source / DOCUMENT]
    if (source / "dvc.yaml").is_file():
        candidates.append(source / load_paths(source / "dvc.yaml").samples / DOCUMENT)
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def label_of(file: Path) -> str:
    """The name of the project's folder, or else of the file's own."""
    folder = file.resolve().parent
    project = next((above for above in (folder, *folder.parents) if (above / "dvc.yaml").is_file()), folder)
    return project.name or str(file)


def _find(model: str) -> Reviewed:
    path = Path(model)
    if path.exists():
        file = find_review(path)
        if file is None:
            raise ReviewError(
                f"{path}: expected a project, a folder of samples or a {DOCUMENT}, found none; "
                "`dvc repro sample` makes one"
            )
        return Reviewed(label_of(file), read_review(file), None)
    return _of_run(model)


def _of_run(model: str) -> Reviewed:
    """Of the newest run that has one, of those that the name stands for."""
    if not Path("dvc.yaml").is_file():
        raise ReviewError(f"{model}: there is no such file or folder; runs and revisions need a project")
    paths, reader, unknown = load_paths(Path("dvc.yaml")), None, ""
    try:
        reader = open_reader()
    except TrackingError as error:
        unknown = f", and runs cannot be looked up: {error}"
    try:
        kind, found = find(model, None, reader, paths)
    except LineageError as error:
        if reader:
            raise
        raise ReviewError(f"{model}: there is no such file, folder or revision{unknown}") from error
    for run in [one.run for one in found if one.run]:
        text = reader.text(run, ARTIFACT) if reader else None
        if text is not None:
            document = _read(text, f"{run.run_id}.json", read_review)
            params = reader.text(run, PARAMS_ARTIFACT) if reader else None
            return Reviewed(_name(model, kind, run), document, recipe_label(params))
    for commit in [one.commit for one in found if one.commit]:
        if file := _of_commit(commit, paths):
            return Reviewed(model, read_review(file), recipe_label(git("show", f"{commit}:./params.yaml")))
    raise ReviewError(
        f"{model}: expected a run with {ARTIFACT}, or its samples on this machine, found neither; `dvc pull` brings "
        "them, `dvc repro sample` makes them"
    )


def _of_commit(commit: str, paths: Paths) -> Path | None:
    """The `review.json` that `dvc.lock` of a commit names: in DVC's cache, or here; None if it is in neither."""
    lock = lock_at(commit)
    samples = lock.outputs.get(str(paths.samples)) if lock else None
    if samples is None:
        return None
    if file := cached(files_of(samples).get(DOCUMENT, "")):
        return file
    here = paths.samples / DOCUMENT
    return here if here.is_file() and folder_md5(paths.samples) == samples else None


def _name(model: str, kind: str, run: TrackedRun) -> str:
    """What the user calls it; of a run, its experiment, and of ids and hashes only the beginning."""
    named = run.tags.get(EXPERIMENT, model) if kind == "run" else model
    return named[:MAX_ID_CHARS] if re.fullmatch(rf"[0-9a-f]{{{MAX_ID_CHARS},64}}", named) else named


def _read(text: str, name: str, read: Callable[[Path], Content]) -> Content:
    """What `read` makes of a file of that name with that text."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_text(text, encoding="utf-8")
        return read(file)


def _numbered(labels: Sequence[str]) -> list[str]:
    """With a number where several are the same."""
    seen, numbered = Counter[str](), []
    for label in labels:
        seen[label] += 1
        numbered.append(f"{label} ({seen[label]})" if labels.count(label) > 1 else label)
    return numbered
