"""`charlstm recipe` and `charlstm corpus`: list presets, write one into `params.yaml`, save one from there."""

import os
import re
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from charlstm.errors import ParamsError
from charlstm.files.atomic import write_text
from charlstm.files.documents import parse_yaml, validate
from charlstm.params import Params, load_params
from charlstm.sections import short_name, shown, values_in_words
from pipeline.lineage.search import find_commit
from pipeline.provenance.git import git
from pipeline.stage import presets
from pipeline.stage.params_file import params_with, write_params
from pipeline.stage.presets import CORPORA, RECIPES, Kind, load
from pipeline.stage.project import PARAMS

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


def _run(kind: Kind, words: list[str], is_forced: bool) -> int:
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


def _show(kind: Kind) -> None:
    width = min(MAX_WIDTH, shutil.get_terminal_size().columns)

    def show(text: str, indent: str) -> None:
        typer.echo(
            textwrap.fill(text, width, initial_indent=indent, subsequent_indent="      ", break_on_hyphens=False)
        )

    values = presets.current_values()
    typer.echo(f"params.yaml: {presets.in_words(values)}")
    for name in presets.names(kind):
        try:
            preset = load(kind, name)
        except ParamsError as error:
            show(f"{name}: {error}", "  ")
            continue
        changes = _changes(values, preset.values)
        show(f"{name}: {preset.about.partition('. ')[0].rstrip('.')}", "  " if changes else "* ")
        if changes:
            show(", ".join(f"{short_name(key)} {change}" for key, change in changes.items()), "      ")
    typer.echo(f"`charlstm {kind.name} NAME` writes one into params.yaml, `save NAME` keeps what is there")


def _changes(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, str]:
    """The changes, each as `2 -> 3`, by dotted name."""
    return {key: f"{shown(before[key])} -> {shown(value)}" for key, value in after.items() if before[key] != value}


def _write(kind: Kind, name: str, is_forced: bool) -> None:
    presets.check_idle()
    preset, before = load(kind, name), presets.current_values()
    if not is_forced:
        presets.check_kept(kind, preset.values)
    changes = _changes(before, preset.values)
    text, _ = params_with({key: preset.values[key] for key in changes})
    write_params(text)
    for key, change in changes.items():
        typer.echo(f"  {key} {change}")
    typer.echo(f"params.yaml: {kind.name} {name}" + ("" if changes else ", as it was"))
    typer.echo("next: dvc repro")


def _save(kind: Kind, name: str, experiment: str | None, is_forced: bool) -> None:
    values = load_params(PARAMS).values() if experiment is None else _values_of(experiment)
    path = _check_name(kind, name)
    if os.path.lexists(path) and not is_forced:  # also a link that leads nowhere
        raise ParamsError(f"{path} is there already: take another name, or --force to write over it")
    about = _write_preset(kind, name, values, f": the experiment {experiment}." if experiment else ".")
    typer.echo(f"{path}: {about}")


def _check_name(kind: Kind, name: str) -> Path:
    """The file of a preset that is to be written.

    Raises:
        ParamsError: it cannot have that name.
    """
    path = presets.path_of(kind, name)
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name) or name == SAVE:
        raise ParamsError(f"expected a name of small letters, digits, - and _, got {name!r}")
    if name == kind.root:
        raise ParamsError(f"{path}: all other {kind.plural} build on it: take another name")
    return path


def _write_preset(kind: Kind, name: str, values: Mapping[str, object], origin: str) -> str:
    """Write a preset of all `values`. In words what that is, by the nearest one; `origin` follows it in the file.

    It builds on the root, which no command writes. So it stays as it is when another preset is made anew.
    """
    near, root = presets.nearest(kind, values, without=name), load(kind, kind.root)  # not the one that it replaces
    words = values_in_words(near.changes)
    about = f"{near.name} with {words}" if words else f"the same as {near.name}"
    changes = {key: values[key] for key, value in root.values.items() if values[key] != value}
    write_text(presets.path_of(kind, name), presets.preset_text(about + origin, kind.root, changes))
    return about


def _values_of(experiment: str) -> dict[str, object]:
    """The `params.yaml` of a commit or an experiment; its values are right, or one line says what is not."""
    commit = find_commit(experiment)
    text = git("show", f"{commit}:./{PARAMS}") if commit else None
    if text is None:
        raise ParamsError(
            f"{experiment!r} is no commit and no DVC experiment with a {PARAMS}: `dvc exp show` lists them"
        )
    place = Path(f"{experiment}:{PARAMS}")
    try:
        return validate(Params, parse_yaml(text), place).values()
    except ValueError as error:  # it is no YAML
        raise ParamsError(f"{place}: {error}") from None
