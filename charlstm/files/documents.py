"""YAML and JSON documents: what is wrong with one is one line."""

import json
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ruamel.yaml import YAML

from charlstm.errors import ParamsError
from charlstm.files.atomic import open_regular
from charlstm.files.urls import without_credentials

if TYPE_CHECKING:
    from pydantic import BaseModel

MAX_JSON_BYTES = 100_000_000  # all of Unicode as a vocabulary has 20 MB


def parse_yaml(text: str) -> Any:  # noqa: ANN401  # a document can be anything; who reads it looks
    """The document in `text`, read as YAML 1.2.

    Raises:
        ValueError: not YAML; the message says what is wrong and where, in one line.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except Exception as error:  # of a date or a number, ruamel raises what Python does
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())[:300]}") from None


def read_json(path: Path) -> Any:  # noqa: ANN401  # likewise
    """The document in `path`, in strict JSON: no NaN, no infinity.

    Raises:
        OSError: it cannot be read.
        ValueError: not JSON, or too much or too deep.
    """
    with open_regular(path) as file:
        content = file.read(MAX_JSON_BYTES + 1)
    if len(content) > MAX_JSON_BYTES:
        raise ValueError(f"expected at most {MAX_JSON_BYTES:,} bytes")
    try:
        return json.loads(content.decode(), parse_constant=_refuse)
    except UnicodeDecodeError:
        raise ValueError("expected UTF-8") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


# From a YAML file to a validated object, or to one line that names each mistake in it.

Kind = TypeVar("Kind", bound="BaseModel")


def load_yaml(path: Path) -> Any:  # noqa: ANN401  # a YAML document can be anything; `validate` narrows it
    """The document in `path`, read as YAML 1.2.

    Raises:
        ParamsError: missing, unreadable, or not YAML.
    """
    try:
        with open_regular(path) as file:
            return parse_yaml(file.read().decode())
    except OSError as error:
        raise ParamsError(f"{path}: cannot read the parameters: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ParamsError(f"{path}: expected UTF-8") from None
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
