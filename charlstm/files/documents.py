"""YAML documents, and validated objects made of them: what is wrong with one is one line."""

import json
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ruamel.yaml import YAML

from charlstm.errors import ParamsError
from charlstm.files.urls import without_credentials

if TYPE_CHECKING:
    from pydantic import BaseModel

Kind = TypeVar("Kind", bound="BaseModel")


def parse_yaml(text: str) -> Any:  # noqa: ANN401  # a document can be anything; its reader checks
    """The document in `text`, read as YAML 1.2; a ValueError of one line says what is wrong and where."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except Exception as error:  # of a date or a number, ruamel raises what Python does
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())[:300]}") from None


def load_yaml(path: Path) -> Any:  # noqa: ANN401  # likewise
    """The document in `path`, read as YAML 1.2; a ParamsError if there is none."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParamsError(f"{path}: cannot read the parameters: {error.strerror}") from None
    except ValueError as error:
        raise ParamsError(f"{path}: {error}") from None


def validate(kind: type[Kind], document: object, path: Path) -> Kind:
    """`document` as a `kind`; a ParamsError names every wrong value of `path` by its dotted name."""
    from pydantic import ValidationError  # imported lazily: reading a model's sizes needs only JSON

    try:
        return kind.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(_describe(one, kind) for one in error.errors())
        raise ParamsError(f"{path}: {faults}") from None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`, did you mean NAME?` if one of `names` is near, else nothing."""
    near = get_close_matches(name, list(names), n=1)
    return f", did you mean {near[0]}?" if near else ""


def _describe(error: Any, kind: "type[BaseModel]") -> str:  # noqa: ANN401  # pydantic_core.ErrorDetails, a TypedDict
    name = ".".join(map(str, error["loc"])) or "the file"
    match error["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return f"{name} is not a parameter{did_you_mean(name, _names(kind))}"
        case _:
            message = (
                error["msg"]
                .removeprefix("Value error, ")
                .removeprefix("Input ")
                .replace("valid tuple", "list")
            )
            return f"{name} {message}, got {without_credentials(json.dumps(error['input'], default=str))[:60]}"


def _names(kind: "type[BaseModel]", above: str = "") -> Iterator[str]:
    """The dotted names of all fields, of sections and of what is in them."""
    for name, field in kind.model_fields.items():
        yield f"{above}{name}"
        if hasattr(field.annotation, "model_fields"):
            yield from _names(field.annotation, f"{above}{name}.")  # type: ignore[arg-type]
