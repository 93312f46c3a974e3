"""`charlstm recipe`: list recipes, write one into `params.yaml`, save one from there."""

import os
import re
from typing import Annotated

import typer

from charlstm.errors import ParamsError
from charlstm.files.atomic import write_text
from charlstm.parameter_names import shown, values_in_words
from charlstm.params import load_params
from pipeline import recipes
from pipeline.recipes import RECIPES, load
from pipeline.run.project import PARAMS

SAVE = "save"


def recipe(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME | save NAME]",
            help="Its name; or `save`, and a new name.",
            show_default=False,
        ),
    ] = None,
    is_forced: Annotated[
        bool,
        typer.Option(
            "--force", help="Give up changes that would be lost; write over a saved file."
        ),
    ] = False,
) -> int:
    """List recipes, write one into `params.yaml`, or keep one.

    Without a name, it lists them. `save NAME` makes `conf/recipe/NAME.yaml` of what `params.yaml` says.
    """
    match words or []:
        case []:
            _show()
        case ["save", name]:
            _save(name, is_forced)
        case [name] if name != SAVE:
            _write(name, is_forced)
        case _:
            raise typer.BadParameter(f"expected NAME, or save NAME, got {' '.join(words or [])}")
    return 0


def _show() -> None:
    values = recipes.current_values()
    typer.echo(f"params.yaml: {recipes.in_words(values)}")
    for name in recipes.names(RECIPES):
        preset = load(RECIPES, name)
        is_current = all(values.get(key) == value for key, value in preset.values.items())
        typer.echo(
            f"{'*' if is_current else ' '} {name}: {re.split('[.:;] ', preset.about)[0].rstrip('.')}"
        )


def _write(name: str, is_forced: bool) -> None:
    recipes.check_idle()
    preset, before = load(RECIPES, name), recipes.current_values()
    if not is_forced:
        recipes.check_kept(RECIPES, preset.values)
    changes = {key: value for key, value in preset.values.items() if before.get(key) != value}
    text, _ = recipes.params_with(changes)
    write_text(PARAMS.resolve(), text)  # a link stays one
    for key, value in changes.items():
        typer.echo(f"  {key} {shown(before.get(key))} -> {shown(value)}")
    typer.echo(f"params.yaml: recipe {name}" + ("" if changes else ", as it was"))
    typer.echo("next: dvc repro")


def _save(name: str, is_forced: bool) -> None:
    values, path = load_params(PARAMS).values(), recipes.path_of(RECIPES, name)
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name) or name in (SAVE, RECIPES.root):
        raise ParamsError(
            f"expected a name of small letters, digits, - and _, but save and quick, got {name!r}"
        )
    if os.path.lexists(path) and not is_forced:
        raise ParamsError(
            f"{path} is there already: take another name, or --force to write over it"
        )
    near = recipes.nearest(RECIPES, values, without=name)
    about = (
        f"{near.name} with {values_in_words(near.changes)}"
        if near.changes
        else f"the same as {near.name}"
    )
    root = load(RECIPES, RECIPES.root).values
    changes = {key: values[key] for key, value in root.items() if values[key] != value}
    write_text(path, recipes.preset_text(f"{about}.", changes))
    typer.echo(f"{path}: {about}")
