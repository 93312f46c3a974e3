"""YAML documents, validated as pydantic models, with one-line error messages."""

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


def parse_yaml(text: str) -> Any:  # noqa: ANN401  # a document has any type; the caller checks it
    """Parse `text` as a YAML 1.2 document.

    Raises:
        ValueError: `text` is not valid YAML. The message has one line and names the position.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except Exception as error:  # for impossible dates, ruamel.yaml raises Python's own errors
        raise ValueError(f"not valid YAML: {' '.join(str(error).split())[:300]}") from None


def load_yaml(path: Path) -> Any:  # noqa: ANN401  # a document has any type; the caller checks it
    """Load the YAML 1.2 file `path`. Raise ParamsError if the file is unreadable or invalid."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParamsError(f"{path}: cannot read the parameters: {error.strerror}") from None
    except ValueError as error:
        raise ParamsError(f"{path}: {error}") from None


def validate(kind: type[Kind], document: object, path: Path) -> Kind:
    """Validate the document in the file `path`. Return it as an instance of `kind`.

    Raises:
        ParamsError: values are wrong. The message names each value by its dotted name.
    """
    from pydantic import ValidationError  # imported here: reading a model's sizes does not need it

    try:
        return kind.model_validate(document)
    except ValidationError as error:
        faults = "; ".join(_describe(fault, kind) for fault in error.errors())
        raise ParamsError(f"{path}: {faults}") from None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return `, did you mean NAME?` with the most similar of `names`, or "" if none is similar."""
    similar = get_close_matches(name, list(names), n=1)
    return f", did you mean {similar[0]}?" if similar else ""


def _describe(fault: Any, kind: "type[BaseModel]") -> str:  # noqa: ANN401  # an ErrorDetails
    name = ".".join(map(str, fault["loc"])) or "the file"
    match fault["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return f"{name} is not a parameter{did_you_mean(name, _names(kind))}"
    problem = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    found = without_credentials(json.dumps(fault["input"], default=str))[:60]
    return f"{name} {problem.replace('valid tuple', 'list')}, got {found}"


def _names(kind: "type[BaseModel]", above: str = "") -> Iterator[str]:
    """Yield the dotted names of all fields, including sections and the fields inside them."""
    for name, field in kind.model_fields.items():
        yield f"{above}{name}"
        if hasattr(field.annotation, "model_fields"):
            yield from _names(field.annotation, f"{above}{name}.")  # type: ignore[arg-type]
