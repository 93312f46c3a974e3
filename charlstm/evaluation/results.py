"""Results as JSON documents: all fields are required and no others known. And losses that others published.

Reading one imports neither torch nor numpy.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from charlstm.errors import CharlstmError
from charlstm.files.atomic import write_text
from charlstm.params import PublishedLoss

HEADLINE = "stateful"  # the protocol whose loss names, orders and compares models
TEST_PREFIX = (
    "test_"  # of the test part, which no choice may see: what compares models leaves it out
)
Kind = TypeVar("Kind")
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Nats = Annotated[float, Field(ge=0, le=1e6)]  # per character; training ends long before
Point = tuple[Number, Nats]


class Document(BaseModel):
    """A document, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LossCurves(Document):
    """Points (epoch, nats/char). Of a long training, a point of `training` is a mean over several rows."""

    training: list[Point]
    validation: list[Point]


class TextFigures(Document):
    """Figures of several texts together; None where there was nothing to count, or no finite number."""

    temperature: Number | None
    """All texts were drawn at it; None of held-out text."""
    num_texts: Count
    num_chars: Count
    known_words: Share | None
    """Of words, those that the training text has, too."""
    distinct_bigrams: Share | None
    """Different pairs of words in a row, as a share of all pairs (distinct-2, Li et al. 2016), counted within a text:
    texts from one seed resemble each other, whatever their prompts. It falls with the texts' length."""
    longest_copied: Count
    """Characters of the longest span that the training text has once or twice."""
    copied: Share | None
    """Of characters, those in such spans of `text_statistics.MIN_COPIED` characters or more."""
    phrases: Share | None
    """Those in spans of `text_statistics.MIN_PHRASE` characters or more that the training text has more often."""
    nats_per_char: Number | None
    """The loss of the model that is asked, after each text's prompt."""


def write_document(path: Path, document: Document, *, indent: int | None = None) -> None:
    """Write a document, compact unless it is indented."""
    separators = (",", ":") if indent is None else None
    content = json.dumps(
        document.model_dump(mode="json"), allow_nan=False, indent=indent, separators=separators
    )
    write_text(path, content + "\n")


def read_document(path: Path, kind: type[Kind], what: str, stage: str) -> Kind:
    """Read and check what `stage` writes.

    Raises:
        CharlstmError: the document is missing, no JSON, of another schema or damaged.
    """
    try:
        return TypeAdapter(kind).validate_python(json.loads(path.read_bytes()))
    except OSError as error:
        raise CharlstmError(
            f"{path}: cannot read {what}: {error.strerror}; `dvc repro {stage}` writes it"
        ) from None
    except (ValueError, RecursionError) as error:
        found = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            found = ": ".join(filter(None, [".".join(map(str, first["loc"]))[:100], first["msg"]]))
        advice = f"`dvc repro --force --single-item {stage}` rewrites it"
        raise CharlstmError(
            f"{path}: expected {what}, found something else ({found}); {advice}"
        ) from None


def published_for(
    validation_sha256: str, reported: Mapping[str, Any] | None, unit: str
) -> tuple[PublishedLoss, ...]:
    """The reported losses if this is the text that they were measured on, to the byte; else none.

    A model of bytes is compared by `stateful` alone: windows of bytes are shorter than those of characters.

    Args:
        validation_sha256: of what was measured, as UTF-8 (`text_sha256`).
        reported: `evaluate.published` of the parameters, as plain data; None: nothing was reported.
        unit: of the model.
    """
    if reported is None or validation_sha256 != reported["validation_sha256"]:
        return ()
    losses = [PublishedLoss.model_validate(one) for one in reported["losses"]]
    return tuple(loss for loss in losses if unit == "character" or loss.protocol == "stateful")
