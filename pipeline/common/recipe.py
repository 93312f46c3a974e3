"""Which recipe of `conf/recipe/` parameters are, and what they change in it."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from charlstm.errors import ParamsError
from charlstm.params import Params
from charlstm.storage.yaml_files import load_yaml

SECTIONS = ("model", "train")  # what a recipe may change
MAX_CHANGES = 8  # with more it is no longer the recipe
MAX_NAMED_CHANGES = 2


class Recipe(NamedTuple):
    """The nearest recipe and the values that differ from it, by dotted name; without a name: no recipe is near."""

    name: str | None
    changes: Mapping[str, object]

    @property
    def label(self) -> str:
        """Short, for a list: `quick`, `quick (epochs=3)`, `quick (5 changes)`, `own parameters`."""
        if self.name is None:
            return "own parameters"
        if len(self.changes) > MAX_NAMED_CHANGES:
            return f"{self.name} ({len(self.changes)} changes)"
        changes = [f"{name.partition('.')[2]}={_shown(value)}" for name, value in self.changes.items()]
        return f"{self.name} ({', '.join(changes)})" if changes else self.name

    @property
    def full(self) -> str:
        """With every change: `quick, train.epochs=3`."""
        return ", ".join(
            [self.name or "own parameters", *(f"{key}={_shown(one)}" for key, one in self.changes.items())]
        )


def recipe_of(params: Params, conf: Path) -> Recipe:
    """The recipe below `conf` that differs least from `params`, in the values that recipes decide.

    It only names what is there: where `conf` is missing or damaged, the parameters are their own.
    """
    try:
        recipes = _recipes(conf)
    except ParamsError:
        return Recipe(None, {})
    mine = _flat(params.model_dump(mode="json"))
    decided = {name for values in recipes.values() for name in values}
    with contextlib.suppress(ParamsError):  # what one recipe decides, others leave as `config.yaml` has it
        shared = _flat(_document(conf / "config.yaml"))
        recipes = {name: {**shared, **values} for name, values in recipes.items()}
    found = [
        Recipe(name, {key: mine[key] for key in mine if key in decided and mine[key] != values.get(key, mine[key])})
        for name, values in recipes.items()
    ]
    nearest = min(found, key=lambda one: (len(one.changes), str(one.name)), default=Recipe(None, {}))
    return nearest if len(nearest.changes) <= MAX_CHANGES else Recipe(None, {})


def _recipes(conf: Path) -> dict[str, dict[str, object]]:
    folder = conf / "recipe"
    return {file.stem: _values(folder, file.stem, ()) for file in sorted(folder.glob("*.yaml"))}


def _values(folder: Path, name: str, above: tuple[str, ...]) -> dict[str, object]:
    """What a recipe decides. `defaults` names the recipes that it begins from; `_self_` is the file itself."""
    if name in above:
        raise ParamsError(f"{folder}: {name} begins from itself")
    document = _document(folder / f"{name}.yaml")
    sections = {section: document[section] for section in SECTIONS if section in document}
    bases = document.get("defaults") or ["_self_"]
    if not isinstance(bases, list) or not all(isinstance(values, dict) for values in sections.values()):
        raise ParamsError(f"{folder / name}.yaml: expected a list of defaults, and mappings")
    own, values = _flat(sections), dict[str, object]()
    for base in bases:
        values |= own if base == "_self_" else _values(folder, str(base), (*above, name))
    return values


def _document(path: Path) -> dict[str, Any]:
    document = load_yaml(path)
    if not isinstance(document, dict):
        raise ParamsError(f"{path}: expected a mapping")
    return document


def _flat(document: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in document.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _shown(value: object) -> str:
    return "null" if value is None else str(value)
