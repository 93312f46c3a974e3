"""JSON documents of results: all their fields are required and no others known; a damaged one is refused in a line."""

import json
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from charlstm.errors import CharlstmError
from charlstm.files.atomic import write_text
from charlstm.files.documents import read_json

Kind = TypeVar("Kind")


class Document(BaseModel):
    """A document, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def write_document(path: Path, document: Document, *, indent: int | None = None) -> None:
    """Write a document, compact unless it is indented."""
    separators = (",", ":") if indent is None else None
    content = json.dumps(document.model_dump(mode="json"), allow_nan=False, indent=indent, separators=separators)
    write_text(path, content + "\n")


def read_document(path: Path, kind: type[Kind], what: str, stage: str, error: type[CharlstmError]) -> Kind:
    """Read and check what `stage` writes.

    Raises:
        CharlstmError: an `error`; the document is missing, no JSON, of another schema or damaged.
    """
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except OSError as fault:
        raise error(f"{path}: cannot read {what}: {fault.strerror}; `dvc repro {stage}` writes it") from None
    except ValueError as fault:
        found = str(fault)
        if isinstance(fault, ValidationError):
            first = fault.errors()[0]
            found = ": ".join(filter(None, [".".join(map(str, first["loc"]))[:100], first["msg"]]))
        raise error(
            f"{path}: expected {what}, found something else ({found}); `dvc repro --force {stage}` rewrites it"
        ) from None
