"""From a YAML file to a validated object, or to one line that names each mistake in it."""

import json
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from charlstm.errors import ParamsError
from charlstm.storage.documents import read_yaml
from charlstm.storage.urls import without_credentials

Kind = TypeVar("Kind", bound=BaseModel)


def load_yaml(path: Path) -> Any:  # noqa: ANN401  # a YAML document can be anything; `validate` narrows it
    """The document in `path`, read as YAML 1.2.

    Raises:
        ParamsError: missing, unreadable, or not YAML.
    """
    try:
        return read_yaml(path)
    except OSError as error:
        raise ParamsError(f"{path}: cannot read the parameters: {error.strerror}") from None
    except ValueError as error:
        raise ParamsError(f"{path}: {error}") from None


def validate(kind: type[Kind], document: object, path: Path) -> Kind:
    """`document` as a `kind`.

    Raises:
        ParamsError: names every wrong value of `path` by its dotted name.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise ParamsError(f"{path}: " + "; ".join(_describe(one, kind) for one in error.errors())) from None


def faults_of(kind: type[BaseModel], document: object) -> list[str]:
    """What `validate` would say of each wrong value, by its dotted name."""
    try:
        kind.model_validate(document)
    except ValidationError as error:
        return [_describe(one, kind) for one in error.errors()]
    return []


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`, did you mean NAME?` if one of `names` is near, else nothing."""
    near = get_close_matches(name, list(names), n=1)
    return f", did you mean {near[0]}?" if near else ""


def _describe(error: Any, kind: type[BaseModel]) -> str:  # noqa: ANN401  # pydantic_core.ErrorDetails, a TypedDict
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


def _names(kind: type[BaseModel], above: str = "") -> Iterator[str]:
    """The dotted names of all fields of `kind`, of sections and of what is in them."""
    for name, field in kind.model_fields.items():
        yield f"{above}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _names(field.annotation, f"{above}{name}.")


def _shown(value: object) -> str:
    try:
        return without_credentials(json.dumps(value, default=str))[:60]
    except (TypeError, ValueError):  # a number of thousands of digits, a key that JSON has not
        return f"a {type(value).__name__}"
