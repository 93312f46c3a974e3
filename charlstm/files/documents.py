"""YAML and JSON documents, which anybody may have written: what is wrong with them is one line."""

import json
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent

from charlstm.errors import ParamsError
from charlstm.files.atomic import open_regular
from charlstm.files.urls import without_credentials

if TYPE_CHECKING:
    from pydantic import BaseModel

# Far above what is written here: our largest YAML file has 20 kB, and all of Unicode as a vocabulary 20 MB.
MAX_YAML_BYTES, MAX_JSON_BYTES = 500_000, 100_000_000


def parse_yaml(text: str) -> Any:  # noqa: ANN401  # a document can be anything; who reads it looks
    """The document in `text`, read as YAML 1.2, without aliases.

    Raises:
        ValueError: not YAML, or nested too deeply; the message says what is wrong, in one line.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _ComposerWithoutAliases
    try:
        return yaml.load(text)
    except YAMLError as error:
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())[:300]}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # of a date, a number, a tag
        raise ValueError(f"not valid YAML: a value that cannot be read: {' '.join(str(error).split())[:100]}") from None


def read_json(path: Path) -> Any:  # noqa: ANN401  # likewise
    """The document in `path`, in strict JSON: no NaN, no infinity.

    Raises:
        OSError: it cannot be read.
        ValueError: not JSON, or too much or too deep.
    """
    try:
        return json.loads(_read(path, MAX_JSON_BYTES), parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _read(path: Path, max_bytes: int) -> str:
    with open_regular(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"expected at most {max_bytes:,} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("expected UTF-8") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


class _ComposerWithoutAliases(Composer):
    """Refuses aliases, of which a few can stand for billions of values."""

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401  # as ruamel.yaml has it
        """The next value, a node of YAML's."""
        if self.parser.check_event(AliasEvent):
            mark = self.parser.peek_event().start_mark
            raise MarkedYAMLError(problem="found an alias: write out what it stands for", problem_mark=mark)
        return super().compose_node(parent, index)


# From a YAML file to a validated object, or to one line that names each mistake in it.

Kind = TypeVar("Kind", bound="BaseModel")


def load_yaml(path: Path) -> Any:  # noqa: ANN401  # a YAML document can be anything; `validate` narrows it
    """The document in `path`, read as YAML 1.2.

    Raises:
        ParamsError: missing, unreadable, or not YAML.
    """
    try:
        return parse_yaml(_read(path, MAX_YAML_BYTES))
    except OSError as error:
        raise ParamsError(f"{path}: cannot read the parameters: {error.strerror}") from None
    except ValueError as error:
        raise ParamsError(f"{path}: {error}") from None


def validate(kind: type[Kind], document: object, path: Path) -> Kind:
    """`document` as a `kind`.

    Raises:
        ParamsError: names every wrong value of `path` by its dotted name.
    """
    if faults := faults_of(kind, document):
        raise ParamsError(f"{path}: {'; '.join(faults)}")
    return kind.model_validate(document)


def faults_of(kind: "type[BaseModel]", document: object) -> list[str]:
    """The faults that `validate` would report, one for each wrong value, by its dotted name."""
    from pydantic import ValidationError  # who only reads JSON, as of a model's sizes, starts without it

    try:
        kind.model_validate(document)
    except ValidationError as error:
        return [_describe(one, kind) for one in error.errors()]
    return []


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`, did you mean NAME?` if one of `names` is near, else nothing."""
    near = get_close_matches(name, list(names), n=1)
    return f", did you mean {near[0]}?" if near else ""


def _describe(error: Any, kind: "type[BaseModel]") -> str:  # noqa: ANN401  # pydantic_core.ErrorDetails, a TypedDict
    name = ".".join(str(part) for part in error["loc"]) or "the file"
    match error["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return f"{name} is not a parameter{did_you_mean(name, _names(kind))}"
        case "model_type" if inner := [one for one in _names(kind) if one.startswith(f"{name}.")]:
            return f"{name} is a section, got {_shown(error['input'])}: set {', '.join(inner)}"
        case "too_short":
            return f"{name} should have at least {error['ctx']['min_length']} value(s)"
        case "relation":  # of ours: between parameters of one section
            return f"{name}.{error['msg']}"
        case _:
            message = error["msg"].replace("Input should be", "should be").replace("a valid tuple", "a list")
            return f"{name} {message}, got {_shown(error['input'])}"


def _names(kind: "type[BaseModel]", above: str = "") -> Iterator[str]:
    """The dotted names of all fields of `kind`, of sections and of what is in them."""
    from pydantic import BaseModel

    for name, field in kind.model_fields.items():
        yield f"{above}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(field.annotation, f"{above}{name}.")


def _shown(value: object) -> str:
    try:
        return without_credentials(json.dumps(value, default=str))[:60]
    except (TypeError, ValueError):  # a number of thousands of digits, a key that JSON has not
        return f"a {type(value).__name__}"
