"""The files of a new corpus: what they say, whether they may be written over; all of them are written, or none."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from charlstm.storage.files import atomic_folder, write_all_or_none
from pipeline.common.presets import CORPORA, RECIPES, preset_text

MARK = "# Written by `charlstm new`, which writes it anew only if it is as it was: "
MARK_DIGITS = 16


def write_all(files: Mapping[Path, str], links: Path | None = None, targets: Sequence[Path] = ()) -> None:
    """Write `files`, and `links`, a folder of links to `targets` in their order. What fails leaves all as it was.

    The last step, a rename by which the links take their place, undoes no file if it fails.

    Raises:
        OSError: as the operating system has it.
    """
    for path in files:
        if path.is_dir():
            raise IsADirectoryError(None, "expected a file, found a folder", str(path))
    with ExitStack() as stack:
        if links:
            folder = stack.enter_context(atomic_folder(links))
            for number, target in enumerate(targets, 1):
                (folder / link_name(number, target)).symlink_to(target)
        write_all_or_none(files)


def link_name(number: int, target: Path) -> str:
    """A name that sorts by `number`, from 1, and that a parameter can hold."""
    plain = "".join(one if one.isascii() and (one.isalnum() or one in "._-") else "_" for one in target.name)
    return f"{number:05}-{plain[-100:]}"


def corpus_file(about: str, values: Mapping[str, object]) -> str:
    """`conf/corpus/NAME.yaml`; `values` by dotted name. Each line of `about` is shown."""
    return _with_mark(preset_text(about, CORPORA.root, values))


def recipe_file(about: str, changes: Mapping[str, object]) -> str:
    """`conf/recipe/NAME.yaml`: the recipe quick with `changes`, by dotted name."""
    return _with_mark(preset_text(about, RECIPES.root, changes))


def is_ours(path: Path) -> bool:
    """Whether `charlstm new` wrote the file, and nobody has changed it since."""
    text = path.read_text(encoding="utf-8", errors="replace")
    body, mark, _ = text.rpartition(MARK)
    return bool(mark) and _with_mark(body) == text


def was_ours(path: Path) -> bool:
    """Whether `charlstm new` wrote the file at first; it may have been changed since."""
    return MARK in path.read_text(encoding="utf-8", errors="replace")


def _with_mark(body: str) -> str:
    return f"{body}{MARK}{hashlib.sha256(body.encode()).hexdigest()[:MARK_DIGITS]}\n"
