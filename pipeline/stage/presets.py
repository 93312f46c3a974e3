"""Presets: recipes and corpora, which are named values for parts of `params.yaml`.

`params.yaml` alone says what runs. A preset is a file of `conf/recipe/` or `conf/corpus/`. Commands write it in there.
It says what differs from the preset that it builds on. The last one of that chain, the root, names every parameter
that presets of its kind decide. So one preset written after another leaves nothing of the first behind.
"""

import hashlib
from collections.abc import Iterable, Mapping
from io import StringIO
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from ruamel.yaml import YAML

from charlstm.errors import ParamsError
from charlstm.files.documents import did_you_mean, load_yaml
from charlstm.files.lock import holder_of
from charlstm.params import Params
from charlstm.sections import values_in_words
from pipeline.stage.params_file import replaced
from pipeline.stage.project import PARAMS

CONF = Path("conf")
BUILDS_ON = "builds_on"
MAX_CHANGES = 8  # of parameters that are still said to be a recipe with changes
MAX_NAMED_CHANGES = 3


class Kind(NamedTuple):
    """Recipes or corpora: what a folder of `conf/` has."""

    name: str  # of the folder
    plural: str
    root: str  # the preset that names every parameter of this kind


RECIPES = Kind("recipe", "recipes", "quick")
CORPORA = Kind("corpus", "corpora", "tiny-shakespeare")


class Preset(NamedTuple):
    """A file of `conf/`."""

    name: str
    about: str  # the comment at its top
    chain: tuple[str, ...]  # itself and all that it builds on, up to the root
    values: Mapping[str, object]  # all that it decides, by dotted name


class Recipe(NamedTuple):
    """The nearest recipe and the values that differ from it, by dotted name; without a name: no recipe is near."""

    name: str | None
    changes: Mapping[str, object]

    @property
    def label(self) -> str:
        """Short, for a list: `quick`, `quick · epochs 3`, `quick · 5 changes`, `parameters of no recipe`."""
        if len(self.changes) > MAX_NAMED_CHANGES:
            return f"{self.name} · {len(self.changes)} changes"
        return self.full

    @property
    def full(self) -> str:
        """The name with every change: `quick · hidden_size 128, epochs 1`."""
        name = self.name or "parameters of no recipe"
        return f"{name} · {values_in_words(self.changes)}" if self.changes else name


def names(kind: Kind, root: Path = Path()) -> list[str]:
    """The names of all presets. Hidden files, as editors leave them, and what is no file are none."""
    files = (root / CONF / kind.name).glob("*.yaml")
    return sorted(file.stem for file in files if file.is_file() and not file.name.startswith("."))


def path_of(kind: Kind, name: str) -> Path:
    """The file of a preset."""
    return CONF / kind.name / f"{name}.yaml"


def load(kind: Kind, name: str, root: Path = Path(), above: tuple[str, ...] = ()) -> Preset:
    """A preset, with all that it builds on.

    Raises:
        ParamsError: there is no such preset, or it has a mistake, or one that it builds on.
    """
    path = root / path_of(kind, name)
    if name not in (existing := names(kind, root)):
        named = f" (named by {above[-1]})" if above else ""
        listed = f"there are {', '.join(existing)}" if existing else f"{CONF / kind.name} has none"
        raise ParamsError(f"there is no {kind.name} {name!r}{named}{did_you_mean(name, existing)}; {listed}")
    if name in above:
        raise ParamsError(f"{path}: {name} builds on itself")
    document = load_yaml(path)
    if not isinstance(document, dict):
        raise ParamsError(f"{path}: expected sections of parameters, found none")
    base = document.pop(BUILDS_ON, None)
    own = _flat(document, frozenset(Params.names()), path)
    if base is None and name != kind.root:
        raise ParamsError(f"{path}: expected a line `{BUILDS_ON}: NAME`, e.g. `{BUILDS_ON}: {kind.root}`, found none")
    if base is None:
        return Preset(name, _about(path), (name,), own)
    parent = load(kind, str(base), root, (*above, name))
    if unknown := [key for key in own if key not in parent.values]:
        raise ParamsError(
            f"{path}: a {kind.name} does not decide {', '.join(unknown)}: only what {path_of(kind, kind.root)} has"
        )
    return Preset(name, _about(path), (name, *parent.chain), {**parent.values, **own})


def nearest(kind: Kind, values: Mapping[str, object], root: Path = Path(), without: str | None = None) -> Recipe:
    """The preset that differs least from `values`, in what presets of its kind decide; none that builds on `without`.

    It only names what is there. A damaged preset is passed over. Without any, the parameters are their own.
    """
    matches = []
    for name in names(kind, root):
        try:
            preset = load(kind, name, root)
        except ParamsError:
            continue
        if without in preset.chain:
            continue
        changes = {key: values.get(key) for key, value in preset.values.items() if values.get(key) != value}
        matches.append(Recipe(name, changes))
    return min(matches, key=lambda match: (len(match.changes), match.name != kind.root), default=Recipe(None, {}))


def recognized(kind: Kind, values: Mapping[str, object], root: Path = Path()) -> Recipe:
    """The preset that `values` are, or the nearest one with what differs; none where much differs."""
    match = nearest(kind, values, root)
    return match if len(match.changes) <= MAX_CHANGES else Recipe(None, {})


def recipe_of(params: Params, root: Path = Path()) -> Recipe:
    """The recipe that parameters are, or the nearest one with what differs."""
    return recognized(RECIPES, params.values(), root)


def in_words(values: Mapping[str, object]) -> str:
    """`corpus tiny-shakespeare, recipe quick · epochs 3`."""
    matches = {kind: recognized(kind, values) for kind in (CORPORA, RECIPES)}
    return ", ".join(f"{kind.name} {match.full if match.name else 'of its own'}" for kind, match in matches.items())


def current_values() -> dict[str, object]:
    """The values in `params.yaml`, by dotted name, right or wrong: a mistake must not keep one from writing a preset.

    Raises:
        ParamsError: there is no such file, or it is not YAML.
    """
    document, values = load_yaml(PARAMS), dict[str, object]()
    for name in Params.names():
        value = document
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        values[name] = value
    return values


def check_kept(kind: Kind, target: Mapping[str, object]) -> None:
    """Check that no choice is lost when `target` is written over what `params.yaml` has of this kind.

    Raises:
        ParamsError: a value is in no preset; all of them are named.
    """
    match = nearest(kind, current_values())
    lost = {name: value for name, value in match.changes.items() if target[name] != value}
    if lost:
        raise ParamsError(
            f"{PARAMS} is {match.name} with {values_in_words(lost)}: no {kind.name} has that, and it would be lost: "
            f"keep it by `charlstm {kind.name} save NAME`, or give it up by --force"
        )


def check_idle() -> None:
    """Check that a preset may be written into `params.yaml` now.

    DVC reads that file again when a stage ends: what is written meanwhile would be recorded as the stage's.

    Raises:
        ParamsError: a training is under way in this checkout.
    """
    from pipeline.dvc.unfinished import CHECKOUT

    if (holder := holder_of(CHECKOUT)) is not None:
        raise ParamsError(
            f"a training in this checkout is under way, {holder}, and {PARAMS} must not change before it ends: "
            "wait for it, or stop it"
        )


def preset_text(about: str, builds_on: str, values: Mapping[str, object]) -> str:
    """The file of a preset; `values` by dotted name. Each line of `about` is a comment."""
    yaml, stream = YAML(), StringIO()
    yaml.width = 10**6
    yaml.dump(replaced({BUILDS_ON: builds_on}, values), stream)
    return "".join(f"# {line}\n" for line in about.splitlines()) + "\n" + stream.getvalue()


WRITTEN = "# Written by `charlstm new`"  # how the last line of what that wrote begins


def as_written(text: str) -> str:
    """A preset with a last line that says that `charlstm new` wrote it, and tells whether it was edited since."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text}{WRITTEN}; as written, this has the SHA-256 {digest}.\n"


def is_as_written(text: str) -> bool:
    """Whether nobody has edited what `charlstm new` wrote."""
    return text == as_written(text.partition(WRITTEN)[0])


def read_own(path: Path) -> tuple[list[str], dict[str, object]]:
    """The lines of the comment at the top of a preset, and the values in it, as `charlstm new` wrote them.

    Raises:
        OSError: there is none.
        ParamsError: it was edited, or has a parameter that there is no more.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    if not is_as_written(text):
        raise ParamsError(f"{path}: it was edited")
    document = load_yaml(path)
    document.pop(BUILDS_ON)
    return _comment(text), _flat(document, frozenset(Params.names()), path)


def _about(path: Path) -> str:
    """The comment at the top of a file."""
    return " ".join(_comment(path.read_text(encoding="utf-8")))


def _comment(text: str) -> list[str]:
    lines = takewhile(lambda line: line.startswith("#"), text.splitlines())
    return [line.removeprefix("#").strip() for line in lines]


def _flat(document: Mapping[str, object], parameters: Iterable[str], path: Path, above: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in document.items():
        name = f"{above}{key}"
        if name in parameters:
            flat[name] = value
        elif isinstance(value, dict) and any(parameter.startswith(f"{name}.") for parameter in parameters):
            flat |= _flat(value, parameters, path, f"{name}.")
        else:
            raise ParamsError(f"{path}: {name} is not a parameter{did_you_mean(name, parameters)}")
    return flat
