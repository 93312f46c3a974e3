"""Not a stage: one page that shows several models side by side, from their `review.json`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from charlstm.errors import ReviewError
from charlstm.tracking.comparison.page import write_comparison
from charlstm.tracking.review.document import DOCUMENT, read_review
from pipeline.common.paths import load_paths


def review(sources: Sequence[str], output: Path) -> None:
    """Write `output` from the models in `sources`: projects, folders of samples, or `review.json` files.

    Raises:
        ReviewError: a source is none of these or damaged, or there are none, or too many for one page.
    """
    files = [find_review(Path(source)) for source in sources]
    write_comparison(output, [(label, read_review(file)) for label, file in zip(labels_of(files), files, strict=True)])


def find_review(source: Path) -> Path:
    """The `review.json` of a project, of a folder of samples, or itself.

    Raises:
        ReviewError: there is none.
    """
    candidates = [source] if source.is_file() else [source / DOCUMENT]
    if (source / "dvc.yaml").is_file():
        candidates.append(source / load_paths(source / "dvc.yaml").samples / DOCUMENT)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ReviewError(
        f"{source}: expected a project, a folder of samples or a {DOCUMENT}, found none; `dvc repro sample` makes one"
    )


def labels_of(files: Sequence[Path]) -> list[str]:
    """A name for each file, from its path: the project's folder, numbered where several have the same."""
    names = [_project_of(file).name or str(file) for file in files]
    seen: Counter[str] = Counter()
    labels = []
    for name in names:
        seen[name] += 1
        labels.append(f"{name} ({seen[name]})" if names.count(name) > 1 else name)
    return labels


def _project_of(file: Path) -> Path:
    """The nearest folder above with a `dvc.yaml`, or else the file's own."""
    folder = file.resolve().parent
    return next((above for above in (folder, *folder.parents) if (above / "dvc.yaml").is_file()), folder)
