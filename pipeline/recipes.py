"""Recipes and corpora: named values for parts of `params.yaml`, in files of `conf/recipe/` and `conf/corpus/`.

One of each kind, the root, has every parameter that its kind decides. The others say what differs from it. So one that
is written into `params.yaml` after another leaves nothing of the first behind.
"""

from collections.abc import Mapping
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
MAX_CHANGES = 8  # of parameters that are still said to be a recipe with changes
MAX_NAMED_CHANGES = 3


class Kind(NamedTuple):
    """Recipes or corpora."""

    name: str  # of the folder in `conf/`
    root: str


RECIPES = Kind("recipe", "quick")
CORPORA = Kind("corpus", "tiny-shakespeare")


class Preset(NamedTuple):
    """A recipe or a corpus."""

    about: str  # the comment at its top
    values: Mapping[str, object]  # all that it decides, by dotted name


class Recipe(NamedTuple):
    """The nearest preset, and what differs from it by dotted name; without a name: none is near."""

    name: str | None
    changes: Mapping[str, object]

    @property
    def label_parts(self) -> list[str]:
        """The recipe's name, and what differs from it if anything does."""
        is_long = len(self.changes) > MAX_NAMED_CHANGES
        changes = f"{len(self.changes)} changes" if is_long else values_in_words(self.changes)
        return [self.name or "own parameters", *([changes] if changes else [])]

    @property
    def label(self) -> str:
        """Short, for a list: `quick`, `quick · epochs 3`, `quick · 5 changes`, `own parameters`."""
        return " · ".join(self.label_parts)


def names(kind: Kind, root: Path = Path()) -> list[str]:
    """The names of all presets, without hidden files, as editors leave them."""
    files = (root / CONF / kind.name).glob("*.yaml")
    return sorted(file.stem for file in files if file.is_file() and not file.name.startswith("."))


def path_of(kind: Kind, name: str) -> Path:
    """The file of a preset."""
    return CONF / kind.name / f"{name}.yaml"


def load(kind: Kind, name: str, root: Path = Path()) -> Preset:
    """A preset, with the values of the root that it does not change; ParamsError if there is none, or a mistake."""
    path = root / path_of(kind, name)
    if name not in (existing := names(kind, root)):
        near = did_you_mean(name, existing)
        raise ParamsError(
            f"there is no {kind.name} {name!r}{near}; there are {', '.join(existing)}"
        )
    values = _load(path)
    if name != kind.root:
        base = load(kind, kind.root, root).values
        if unknown := [key for key in values if key not in base]:
            raise ParamsError(
                f"{path}: {', '.join(unknown)}: expected only what {path_of(kind, kind.root)} has"
            )
        values = {**base, **values}
    lines = takewhile(
        lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines()
    )
    return Preset(" ".join(line.removeprefix("#").strip() for line in lines), values)


def nearest(
    kind: Kind, values: Mapping[str, object], root: Path = Path(), without: str | None = None
) -> Recipe:
    """The preset that differs least from `values`; not the one named `without`, nor a damaged one."""
    matches = []
    for name in names(kind, root):
        try:
            preset = load(kind, name, root)
        except ParamsError:
            continue
        if name != without:
            changes = {
                key: values.get(key)
                for key, value in preset.values.items()
                if values.get(key) != value
            }
            matches.append(Recipe(name, changes))
    return min(
        matches,
        key=lambda match: (len(match.changes), match.name != kind.root),
        default=Recipe(None, {}),
    )


def recognized(kind: Kind, values: Mapping[str, object], root: Path = Path()) -> Recipe:
    """The preset that `values` are, or the nearest one with what differs; none where much differs."""
    match = nearest(kind, values, root)
    return match if len(match.changes) <= MAX_CHANGES else Recipe(None, {})


def recipe_of(params: Params, root: Path = Path()) -> Recipe:
    """The recipe that `params` are, as `recognized` has it."""
    return recognized(RECIPES, params.values(), root)


def in_words(values: Mapping[str, object]) -> str:
    """`text tiny-shakespeare, recipe quick · epochs 3, seed 1`, or `text of its own, ...`."""
    known = [("text", recognized(CORPORA, values)), ("recipe", recognized(RECIPES, values))]
    presets = ", ".join(
        f"{kind} {found.label if found.name else 'of its own'}" for kind, found in known
    )
    return f"{presets}, seed {values.get(SEED)}"


def current_values() -> dict[str, object]:
    """The values in `params.yaml`, by dotted name, right or wrong: writing a preset mends a mistake."""
    return _load(PARAMS)


def check_kept(kind: Kind, target: Mapping[str, object]) -> None:
    """Raise ParamsError if `target`, written over `params.yaml`, would replace a choice that no preset has."""
    match = nearest(kind, current_values())
    if lost := {name: value for name, value in match.changes.items() if target[name] != value}:
        keep = (
            "`charlstm recipe save NAME` keeps it"
            if kind == RECIPES
            else "keep it in a file of conf/corpus/"
        )
        raise ParamsError(
            f"{PARAMS} is {match.name} with {values_in_words(lost)}: no {kind.name} has that, and it would be lost: "
            f"{keep}, --force gives it up"
        )


def check_idle() -> None:
    """Raise ParamsError if a training is under way: when it ends, DVC records what `params.yaml` says then."""
    if (holder := holder_of(CHECKOUT)) is not None:
        raise ParamsError(
            f"a training in this checkout is under way, {holder}: wait until it ends, or stop it"
        )


def params_with(values: Mapping[str, object]) -> tuple[str, Params]:
    """The text of `params.yaml` with other values, and the parameters in it; ParamsError if it would have a mistake."""
    current_values()  # says in one line why it cannot be read
    changed = with_values(PARAMS.read_text(encoding="utf-8"), values)
    return changed, validate(Params, parse_yaml(changed), PARAMS)


def preset_text(about: str, values: Mapping[str, object]) -> str:
    """The file of a preset. Each line of `about` is a comment."""
    return "".join(f"# {line}\n" for line in about.splitlines()) + "\n" + with_values("{}", values)


def with_values(text: str, values: Mapping[str, object]) -> str:
    """`text`, a YAML document, with other `values`, in the form in which DVC writes it at `dvc exp run -S`."""
    yaml, stream = YAML(), StringIO()
    yaml.default_flow_style = False
    document = yaml.load(text) or yaml.load("{}")
    document.fa.set_block_style()
    _with_comments_at_values(document)
    yaml.dump(replaced(document, values), stream)
    return stream.getvalue()


def replaced(document: Any, values: Mapping[str, object]) -> Any:  # noqa: ANN401  # a YAML document
    """The same `document`, changed to have other values."""
    for name, value in values.items():
        *sections, last = name.split(".")
        section = document
        for part in sections:
            section = section.setdefault(part, {})
        section[last] = value
    return document


def _with_comments_at_values(section: Any) -> None:  # noqa: ANN401  # of ruamel's document
    """Place comments in a line behind its value, whatever the length of the one before."""
    for key, value in section.items():
        if key in section.ca.items and section.ca.items[key][2]:
            section.ca.items[key][2].column = 0
        if isinstance(value, dict):
            _with_comments_at_values(value)


def _load(path: Path) -> dict[str, object]:
    if not isinstance(document := load_yaml(path), dict):
        raise ParamsError(f"{path}: expected sections of parameters, found none")
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
