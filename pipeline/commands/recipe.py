"""`charlstm recipe` and `charlstm corpus`: list presets, write one into `params.yaml`, save one from there."""

import re
import shutil
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from charlstm.errors import ParamsError
from charlstm.files.atomic import write_text
from charlstm.files.documents import parse_yaml, validate
from charlstm.params import Params, load_params
from pipeline.lineage.revisions import find_commit
from pipeline.provenance.git import git
from pipeline.stage.params_file import PARAMS
from pipeline.stage.presets import (
    CORPORA,
    RECIPES,
    Kind,
    changes_in_words,
    check_kept,
    check_no_training,
    current_values,
    in_words,
    load,
    names,
    nearest,
    params_with,
    path_of,
    preset_text,
    short,
    shown,
)

SAVE = "save"
MAX_WIDTH = 120  # columns

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME | save NAME [EXPERIMENT]]",
        help="Its name; or `save`, a new name, and an experiment (or a commit) if not `params.yaml` is meant.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Give up changes that would be lost; write over a saved file.")]


def recipe(words: Words = None, is_forced: Force = False) -> int:
    """List recipes, write one into `params.yaml`, or keep one.

    `charlstm recipe` lists them, with what each would change. `charlstm recipe NAME` writes one into `params.yaml`: the
    values that recipes decide, with all comments and all other values as they are. `charlstm recipe save NAME` makes
    `conf/recipe/NAME.yaml` of what stands there, and `charlstm recipe save NAME EXPERIMENT` of a DVC experiment.
    """
    return _run(RECIPES, words or [], is_forced)


def corpus(words: Words = None, is_forced: Force = False) -> int:
    """List corpora, write one into `params.yaml`, or keep one.

    As `charlstm recipe` does for recipes. `charlstm new TEXT` makes a corpus, and a recipe for it, of a text of yours.
    """
    return _run(CORPORA, words or [], is_forced)


def _run(kind: "Kind", words: list[str], is_forced: bool) -> int:
    match words:
        case []:
            _show(kind)
        case ["save", name]:
            _save(kind, name, None, is_forced)
        case ["save", name, experiment]:
            _save(kind, name, experiment, is_forced)
        case [name] if name != SAVE:
            _write(kind, name, is_forced)
        case _:
            raise typer.BadParameter(f"expected NAME, or save NAME [EXPERIMENT], got {' '.join(words)}")
    return 0


def _show(kind: "Kind") -> None:
    def show(text: str, indent: str) -> None:
        width = min(MAX_WIDTH, shutil.get_terminal_size().columns)
        typer.echo(
            textwrap.fill(text, width, initial_indent=indent, subsequent_indent="      ", break_on_hyphens=False)
        )

    values = current_values()
    typer.echo(f"params.yaml: {in_words(values)}")
    for name in names(kind):
        try:
            preset = load(kind, name)
        except ParamsError as error:
            show(f"{name}: {error}", "  ")
            continue
        changes = [
            f"{short(key)} {shown(values[key])} -> {shown(value)}"
            for key, value in preset.values.items()
            if values[key] != value
        ]
        show(f"{name}: {preset.about.partition('. ')[0].rstrip('.')}", "  " if changes else "* ")
        if changes:
            show(", ".join(changes), "      ")
    typer.echo(f"`charlstm {kind.name} NAME` writes one into params.yaml, `save NAME` keeps what is there")


def _write(kind: "Kind", name: str, is_forced: bool) -> None:
    check_no_training()
    preset, before = load(kind, name), current_values()
    if not is_forced:
        check_kept(kind, preset.values)
    changes = {key: value for key, value in preset.values.items() if before[key] != value}
    text, _ = params_with(changes)
    write_text(PARAMS, text)
    for key, value in changes.items():
        typer.echo(f"  {key} {shown(before[key])} -> {shown(value)}")
    typer.echo(f"params.yaml: {kind.name} {name}" + ("" if changes else ", as it was"))
    typer.echo("next: dvc repro")


def _save(kind: "Kind", name: str, experiment: str | None, is_forced: bool) -> None:
    path = path_of(kind, name)
    values = _values(experiment)
    root = load(kind, kind.root)
    base = load(kind, nearest(kind, values, without=name).name or kind.root)  # not the one that it replaces
    changes = {key: values[key] for key in root.values if values[key] != base.values[key]}
    _check_name(kind, name, is_forced)
    words = f"{base.name} with {changes_in_words(changes)}" if changes else f"the same as {base.name}"
    write_text(
        path, preset_text(words + (f": the experiment {experiment}." if experiment else "."), base.name, changes)
    )
    typer.echo(f"{path}: {words}")


def _values(experiment: str | None) -> dict[str, object]:
    """Of `params.yaml`, here or in a commit or an experiment; they are right, or one line says what is not."""

    if experiment is None:
        return load_params(PARAMS).values()
    commit = find_commit(experiment)
    text = git("show", f"{commit}:./{PARAMS}") if commit else None
    if text is None:
        raise ParamsError(
            f"{experiment!r} is no commit and no DVC experiment with a {PARAMS}: `dvc exp show` lists them"
        )
    return validate(Params, parse_yaml(text), Path(f"{experiment}:{PARAMS}")).values()


def _check_name(kind: "Kind", name: str, is_forced: bool) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name) or name == SAVE:
        raise ParamsError(f"expected a name of small letters, digits, - and _, got {name!r}")
    if name == kind.root:
        raise ParamsError(f"{path_of(kind, name)}: all other {kind.plural} build on it: take another name")
    if path_of(kind, name).exists() and not is_forced:
        raise ParamsError(f"{path_of(kind, name)} is there already: take another name, or --force to write over it")
