"""The files of `conf/` that a new corpus gets, as text; and whether one may be written over."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from charlstm.errors import ParamsError
from charlstm.storage.yaml_files import load_yaml

MARK = "# Written by `charlstm new`, which writes it anew only if it is as it was: "
MARK_DIGITS = 16
EXAMPLE = "tiny-shakespeare"  # whose file explains every key
QUICK = "quick"


def corpus_file(about: str, download: Mapping[str, object], settings: Mapping[str, object]) -> str:
    """`conf/corpus/NAME.yaml`; `settings` by dotted name, beside those of `download`. Each line of `about` is shown."""
    values = {f"download.{name}": value for name, value in download.items()}
    values |= {"split.document_separator": None, "train.text_prompts": "auto", "evaluate.published": None}
    values |= {"sample.prompts": "auto", **settings}
    return _with_mark(f"{_comment(about)}# What the keys mean is in {EXAMPLE}.yaml.\n\n{_yaml(values)}")


def recipe_file(about: str, changes: Mapping[str, object]) -> str:
    """`conf/recipe/NAME.yaml`: the recipe quick with `changes`, by dotted name."""
    defaults = f"defaults:\n  - {QUICK}\n  - _self_\n\n"
    return _with_mark(f"{_comment(about)}\n{defaults}{_yaml(changes)}")


def select(config: str, corpus: str, recipe: str) -> str:
    """`conf/config.yaml` with another corpus and recipe in its list of defaults, and all else as it is.

    Raises:
        ParamsError: the list does not have a line for each of them.
    """
    for group, name in (("corpus", corpus), ("recipe", recipe)):
        config, count = re.subn(rf"(?m)^(\s*- {group}:)\s*[^\s#]+", rf"\1 {name}", config)
        if count != 1:
            raise ParamsError(
                f"conf/config.yaml: expected one line `- {group}: NAME` in its defaults, found {count}; "
                f"`git checkout conf/config.yaml` brings the shipped one back"
            )
    return config


def is_ours(path: Path) -> bool:
    """Whether `charlstm new` wrote the file, and nobody has changed it since."""
    text = path.read_text(encoding="utf-8", errors="replace")
    body, mark, _ = text.rpartition(MARK)
    return bool(mark) and _with_mark(body) == text


def source_of(path: Path) -> object:
    """The `download.source` that a corpus names, or None."""
    document = load_yaml(path)
    download = document.get("download") if isinstance(document, dict) else None
    return download.get("source") if isinstance(download, dict) else None


def _with_mark(body: str) -> str:
    return f"{body}{MARK}{hashlib.sha256(body.encode()).hexdigest()[:MARK_DIGITS]}\n"


def _comment(about: str) -> str:
    return "# @package _global_\n" + "".join(f"# {line}\n" for line in about.splitlines())


def _yaml(values: Mapping[str, object]) -> str:
    """Dotted names as nested mappings. A value is JSON, which is YAML, too."""
    nested: dict[str, object] = {}
    for name, value in values.items():
        *path, last = name.split(".")
        section = nested
        for part in path:
            section = section.setdefault(part, {})  # type: ignore[assignment]
        section[last] = value
    return "\n".join(_section(name, value, "") for name, value in nested.items()) + "\n"


def _section(name: str, value: object, indent: str) -> str:
    if isinstance(value, dict) and value:
        return f"{indent}{name}:\n" + "".join(_section(one, inner, f"{indent}  ") for one, inner in value.items())
    is_word = isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9_-]*", value)
    return f"{indent}{name}: {value if is_word else json.dumps(value, ensure_ascii=False)}\n"
