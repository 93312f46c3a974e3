"""`charlstm recipe`: recipes in `conf/recipe/`, copied into `params.yaml` or saved from there."""

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
            help="Name of a recipe, or `save` and a new name.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Discard unsaved changes in `params.yaml`, or overwrite a saved recipe."
        ),
    ] = False,
) -> int:
    """List recipes, copy one into `params.yaml`, or save the parameters as a recipe.

    Without a name, list all recipes. `save NAME` writes `conf/recipe/NAME.yaml` from `params.yaml`.
    """
    match words or []:
        case []:
            _show()
        case ["save", name]:
            _save(name, force)
        case [name] if name != SAVE:
            _write(name, force)
        case _:
            raise typer.BadParameter(f"expected `NAME` or `save NAME`, got {' '.join(words or [])}")
    return 0


def _show() -> None:
    values = recipes.values_in(PARAMS)
    typer.echo(f"params.yaml: {recipes.in_words(values)}")
    for name in recipes.names(RECIPES):
        preset = load(RECIPES, name)
        mark = "*" if preset.values.items() <= values.items() else " "
        first_clause = re.split("[.:;] ", preset.about)[0].rstrip(".")
        typer.echo(f"{mark} {name}: {first_clause}")


def _write(name: str, force: bool) -> None:
    recipes.check_idle()
    preset = load(RECIPES, name)
    before = recipes.values_in(PARAMS)
    if not force:
        recipes.check_kept(RECIPES, preset.values)

    changes = {key: value for key, value in preset.values.items() if before.get(key) != value}
    text, _ = recipes.params_with(changes)
    write_text(PARAMS.resolve(), text)  # if `params.yaml` is a link, write to its target
    for key, value in changes.items():
        typer.echo(f"  {key} {shown(before.get(key))} -> {shown(value)}")
    typer.echo(f"params.yaml: recipe {name}" + ("" if changes else ", unchanged"))
    typer.echo("next: dvc repro")


def _save(name: str, force: bool) -> None:
    values = load_params(PARAMS).values()
    path = recipes.path_of(RECIPES, name)
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name) or name in (SAVE, RECIPES.root):
        raise ParamsError(
            f"expected a recipe name of lowercase letters, digits, '-' and '_', got {name!r} "
            "('save' and 'quick' are taken)"
        )
    if os.path.lexists(path) and not force:
        raise ParamsError(
            f"{path} already exists: choose another name, or pass --force to replace the file"
        )

    near = recipes.nearest(RECIPES, values, without=name)
    about = f"the same as {near.name}"
    if near.changes:
        about = f"{near.name} with {values_in_words(near.changes)}"
    root = load(RECIPES, RECIPES.root).values
    changes = {key: values[key] for key, value in root.items() if values[key] != value}
    write_text(path, recipes.preset_text(f"{about}.", changes))
    typer.echo(f"{path}: {about}")
