"""The presets that a new corpus gets, as text; and whether a file of them may be written over."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pipeline.common.presets import CORPORA, RECIPES, preset_text

MARK = "# Written by `charlstm new`, which writes it anew only if it is as it was: "
MARK_DIGITS = 16


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
