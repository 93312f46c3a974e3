"""Results as JSON documents with a strict schema. No import of torch or numpy is needed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from charlstm.errors import CharlstmError
from charlstm.files.atomic import write_text
from charlstm.params import PublishedLoss

HEADLINE = "stateful"  # the protocol whose loss is used to name, sort and compare models
TEST_PREFIX = "test_"  # begins the names of test losses, which must not influence any choice
Kind = TypeVar("Kind")
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Nats = Annotated[float, Field(ge=0, le=1e6)]  # per character; no training reaches a loss of 1e6
Point = tuple[Number, Nats]


class Document(BaseModel):
    """A JSON document, or a part of one. Unknown fields are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LossCurves(Document):
    """The training and validation loss curves as points (epoch, nats per character).

    After a long training, a point of `training` is the mean of several table rows.
    """

    training: list[Point]
    validation: list[Point]


class TextFigures(Document):
    """Statistics of several texts. None means that nothing was counted or the value is infinite."""

    temperature: Number | None
    """Temperature at which all texts were generated. None for held-out text."""
    num_texts: Count
    num_chars: Count
    known_words: Share | None
    """Share of words that also occur in the training text."""
    distinct_bigrams: Share | None
    """Share of different pairs among all pairs of consecutive words (distinct-2, Li et al. 2016).

    Pairs are counted within each text, because texts with the same seed resemble each other
    even if their prompts differ. The share falls as texts become longer.
    """
    longest_copied: Count
    """Length of the longest span that occurs in the training text once or twice, in characters."""
    copied: Share | None
    """Share of characters in spans of at least `text_statistics.MIN_COPIED` characters that occur
    in the training text once or twice."""
    phrases: Share | None
    """Share of characters in spans of at least `text_statistics.MIN_PHRASE` characters that occur
    in the training text three times or more."""
    nats_per_char: Number | None
    """Loss of the reviewed model on the texts, without their prompts."""


def write_document(path: Path, document: Document, *, indent: int | None = None) -> None:
    """Write a document as JSON: compact, or indented by `indent` spaces."""
    separators = (",", ":") if indent is None else None
    content = document.model_dump(mode="json")
    text = json.dumps(content, allow_nan=False, indent=indent, separators=separators)
    write_text(path, text + "\n")


def read_document(path: Path, kind: type[Kind], what: str, stage: str) -> Kind:
    """Read the JSON file `path`, which the stage `stage` writes, as an instance of `kind`.

    Raises:
        CharlstmError: the document is missing, is damaged, or has another schema.
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
            fault = error.errors()[0]
            found = f"{'.'.join(map(str, fault['loc']))[:100]}: {fault['msg']}"
        advice = f"`dvc repro --force --single-item {stage}` rewrites the file"
        raise CharlstmError(
            f"{path}: expected {what}, found invalid content ({found}); {advice}"
        ) from None


def published_for(
    validation_sha256: str, reported: Mapping[str, Any] | None, unit: str
) -> tuple[PublishedLoss, ...]:
    """Return the published losses that can be compared with a model's losses.

    The model must be measured on exactly the reported validation text. A byte model is compared by
    `stateful` alone, because windows of bytes are shorter than windows of characters.

    Args:
        validation_sha256: SHA-256 of the measured text (`text_sha256`).
        reported: `evaluate.published` of the parameters as plain data. None: nothing was reported.
        unit: unit of the model's ids, "character" or "byte".
    """
    if reported is None or validation_sha256 != reported["validation_sha256"]:
        return ()
    losses = map(PublishedLoss.model_validate, reported["losses"])
    return tuple(loss for loss in losses if unit == "character" or loss.protocol == "stateful")
