"""Recipes and corpora: presets of values for `params.yaml`, in `conf/recipe/` and `conf/corpus/`.

Each kind has a root preset with all its parameters. The other presets list only their differences
from the root. So writing a preset into `params.yaml` replaces all values of the previous preset.
"""

from collections.abc import Mapping
from contextlib import suppress
from io import StringIO
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from charlstm.errors import ParamsError
from charlstm.files.documents import did_you_mean, load_yaml, parse_yaml, validate
from charlstm.files.lock import holder_of
from charlstm.parameter_names import SEED, values_in_words
from charlstm.params import Params
from pipeline.run.project import CHECKOUT, PARAMS

CONF = Path("conf")
PARAMETERS = frozenset(Params.names())
MAX_CHANGES = 8  # with more changes, parameters are not a variant of a recipe
MAX_NAMED_CHANGES = 3


class Kind(NamedTuple):
    """A kind of preset: recipes or corpora."""

    name: str  # also the name of the folder in `conf/`
    root: str


RECIPES = Kind("recipe", "quick")
CORPORA = Kind("corpus", "tiny-shakespeare")


class Preset(NamedTuple):
    """A preset of parameter values: a recipe or a corpus."""

    about: str  # the comment at the top of the preset's file
    values: Mapping[str, object]  # values of all parameters of this kind, by dotted name


class Recipe(NamedTuple):
    """The name of the nearest preset (None if none is near), and the changes to it."""

    name: str | None
    changes: Mapping[str, object]

    @property
    def label_parts(self) -> list[str]:
        """The recipe's name, followed by the changes, if any."""
        label = [self.name or "own parameters"]
        if len(self.changes) > MAX_NAMED_CHANGES:
            label.append(f"{len(self.changes)} changes")
        elif self.changes:
            label.append(values_in_words(self.changes))
        return label

    @property
    def label(self) -> str:
        """A short label: `quick`, `quick · epochs 3`, `quick · 5 changes` or `own parameters`."""
        return " · ".join(self.label_parts)


def names(kind: Kind) -> list[str]:
    """Return the names of all presets of a kind. Ignore hidden files, which editors create."""
    files = (CONF / kind.name).glob("*.yaml")
    return sorted(file.stem for file in files if file.is_file() and not file.name.startswith("."))


def path_of(kind: Kind, name: str) -> Path:
    """Return the path of a preset's file."""
    return CONF / kind.name / f"{name}.yaml"


def load(kind: Kind, name: str) -> Preset:
    """Load a preset. Values that the preset does not change come from the root preset.

    Raises:
        ParamsError: the preset does not exist, or has a mistake.
    """
    path = path_of(kind, name)
    existing = names(kind)
    if name not in existing:
        near = did_you_mean(name, existing)
        raise ParamsError(
            f"there is no {kind.name} {name!r}{near}; the existing names are {', '.join(existing)}"
        )
    values = values_in(path)
    if name != kind.root:
        base = load(kind, kind.root).values
        if unknown := [key for key in values if key not in base]:
            raise ParamsError(
                f"{path}: {', '.join(unknown)}: expected only parameters that "
                f"{path_of(kind, kind.root)} has"
            )
        values = {**base, **values}
    lines = path.read_text(encoding="utf-8").splitlines()
    about = takewhile(lambda line: line.startswith("#"), lines)
    return Preset(" ".join(line.removeprefix("#").strip() for line in about), values)


def nearest(kind: Kind, values: Mapping[str, object], without: str | None = None) -> Recipe:
    """Return the preset from which the fewest `values` differ, and these values.

    The preset `without` and damaged presets are skipped.
    """
    matches = []
    for name in names(kind):
        if name == without:
            continue
        with suppress(ParamsError):
            known = load(kind, name).values.items()
            changes = {key: values.get(key) for key, value in known if values.get(key) != value}
            matches.append(Recipe(name, changes))
    return min(
        matches,
        key=lambda match: (len(match.changes), match.name != kind.root),
        default=Recipe(None, {}),
    )


def recognized(kind: Kind, values: Mapping[str, object]) -> Recipe:
    """Return the nearest preset if few values differ from it, or else a recipe without a name."""
    match = nearest(kind, values)
    return match if len(match.changes) <= MAX_CHANGES else Recipe(None, {})


def recipe_of(params: Params) -> Recipe:
    """Return the recipe that is nearest to `params`, or a recipe without a name if none is near."""
    return recognized(RECIPES, params.values())


def in_words(values: Mapping[str, object]) -> str:
    """Describe parameters, e.g. `text tiny-shakespeare, recipe quick · epochs 3, seed 1`."""
    words = []
    for title, kind in (("text", CORPORA), ("recipe", RECIPES)):
        found = recognized(kind, values)
        words.append(f"{title} {found.label if found.name else 'of its own'}")
    return f"{', '.join(words)}, seed {values.get(SEED)}"


def check_kept(kind: Kind, target: Mapping[str, object]) -> None:
    """Raise ParamsError if `target` would overwrite values in `params.yaml` that no preset has."""
    match = nearest(kind, values_in(PARAMS))
    if lost := {name: value for name, value in match.changes.items() if target[name] != value}:
        keep = "save them in a file in conf/corpus/"
        if kind == RECIPES:
            keep = "save them with `charlstm recipe save NAME`"
        raise ParamsError(
            f"{PARAMS} is {match.name} with {values_in_words(lost)}: no {kind.name} has these "
            f"values, and they would be lost: {keep}, or discard them with --force"
        )


def check_idle() -> None:
    """Raise ParamsError during training, because DVC records `params.yaml` when training ends."""
    if (holder := holder_of(CHECKOUT)) is not None:
        raise ParamsError(
            f"training is already running in this checkout, {holder}: wait until it ends, or stop "
            f"it"
        )


def params_with(values: Mapping[str, object]) -> tuple[str, Params]:
    """Return the text of `params.yaml` with some values changed, and the resulting parameters.

    Raises:
        ParamsError: the file is not readable, or the result has a mistake.
    """
    values_in(PARAMS)
    changed = with_values(PARAMS.read_text(encoding="utf-8"), values)
    return changed, validate(Params, parse_yaml(changed), PARAMS)


def preset_text(about: str, values: Mapping[str, object]) -> str:
    """Return the text of a preset's file, with the lines of `about` as comments."""
    return "".join(f"# {line}\n" for line in about.splitlines()) + "\n" + with_values("{}", values)


def with_values(text: str, values: Mapping[str, object]) -> str:
    """Return a YAML document with some values changed, formatted as by `dvc exp run -S`."""
    yaml = YAML()
    yaml.default_flow_style = False
    document = yaml.load(text) or yaml.load("{}")
    document.fa.set_block_style()
    _place_comments(document)
    stream = StringIO()
    yaml.dump(replaced(document, values), stream)
    return stream.getvalue()


def replaced(document: Any, values: Mapping[str, object]) -> Any:  # noqa: ANN401  # a YAML document
    """Change values in a YAML document in place. Return the document."""
    for name, value in values.items():
        *sections, last = name.split(".")
        section = document
        for part in sections:
            section = section.setdefault(part, {})
        section[last] = value
    return document


def _place_comments(section: Any) -> None:  # noqa: ANN401  # a section of ruamel's document
    """Place each comment directly after its value, even if the old value was longer or shorter."""
    for key, value in section.items():
        if key in section.ca.items and section.ca.items[key][2]:
            section.ca.items[key][2].column = 0
        if isinstance(value, dict):
            _place_comments(value)


def values_in(path: Path) -> dict[str, object]:
    """Return the values in a file of parameters, keyed by dotted name, without validating them."""
    document = load_yaml(path)
    if not isinstance(document, dict):
        raise ParamsError(f"{path}: expected parameter sections, found none")
    return _flat(document, path)


def _flat(document: Mapping[str, object], path: Path, above: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in document.items():
        name = f"{above}{key}"
        if name in PARAMETERS:
            flat[name] = value
        elif isinstance(value, dict):
            flat |= _flat(value, path, f"{name}.")
        else:
            raise ParamsError(f"{path}: {name} is not a parameter{did_you_mean(name, PARAMETERS)}")
    return flat
