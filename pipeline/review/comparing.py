"""What `charlstm review` does: find the `review.json` of each model that is named, and write one page of all."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from charlstm.errors import LineageError, ReviewError, TrackingError
from charlstm.tracking.comparison.page import check_number, write_comparison
from charlstm.tracking.review.document import DOCUMENT, ReviewDocument, read_review
from pipeline.common.chain import folder_md5
from pipeline.common.dvc_cache import cached, files_of
from pipeline.common.paths import Paths, load_paths
from pipeline.lineage.revisions import lock_at
from pipeline.lineage.search import find
from pipeline.lineage.tracing import open_reader

ARTIFACT = f"review/{DOCUMENT}"
Labelled = tuple[str, ReviewDocument]


def write_review(models: Sequence[str], output: Path) -> None:
    """Write `output` from the models: projects, folders of samples, files, runs, revisions.

    Raises:
        ReviewError: one is none of these or damaged, or there are none, or too many for one page.
        LineageError: nothing has that name.
    """
    check_number(len(models))
    write_comparison(output, _numbered([_document_of(model) for model in models]))


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


def _document_of(model: str) -> Labelled:
    path = Path(model)
    if path.exists():
        file = find_review(path)
        if file is None:
            raise ReviewError(
                f"{path}: expected a project, a folder of samples or a {DOCUMENT}, found none; "
                "`dvc repro sample` makes one"
            )
        return label_of(file), read_review(file)
    return _of_run(model)


def _of_run(model: str) -> Labelled:
    """Of the newest run that has one, of those that the name stands for."""
    if not Path("dvc.yaml").is_file():
        raise ReviewError(f"{model}: there is no such file or folder; runs and revisions need a project")
    paths, reader, unknown = load_paths(Path("dvc.yaml")), None, ""
    try:
        reader = open_reader()
    except TrackingError as error:
        unknown = f", and runs cannot be looked up: {error}"
    try:
        _, found = find(model, None, reader, paths)
    except LineageError as error:
        if reader:
            raise
        raise ReviewError(f"{model}: there is no such file, folder or revision{unknown}") from error
    for run in [one.run for one in found if one.run]:
        text = reader.text(run, ARTIFACT) if reader else None
        if text is not None:
            return run.name, _parsed(text, run.run_id)
    for commit in [one.commit for one in found if one.commit]:
        if file := _of_commit(commit, paths):
            return model, read_review(file)
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


def _parsed(text: str, run_id: str) -> ReviewDocument:
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"{run_id}.json"
        file.write_text(text, encoding="utf-8")
        return read_review(file)


def _numbered(documents: Sequence[Labelled]) -> list[Labelled]:
    """With a number where several have the same label."""
    labels, seen = [label for label, _ in documents], Counter[str]()
    numbered = []
    for label, document in documents:
        seen[label] += 1
        numbered.append((f"{label} ({seen[label]})" if labels.count(label) > 1 else label, document))
    return numbered
