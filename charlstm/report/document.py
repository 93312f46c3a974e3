"""`review.json`: all that a review page shows of one model, and what the page of several is made from.

It has no times, hosts, paths or run ids: the same model, texts and parameters give the same bytes. Other fields are a
new `schema_version`. Documents of version 2 are read, too, since runs have kept them.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from charlstm.errors import HistoryError, ReviewError
from charlstm.files.atomic import write_text
from charlstm.files.documents import read_json
from charlstm.sections import MAX_LOSS

DOCUMENT, PAGE = "review.json", "review.html"
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Nats = Annotated[float, Field(ge=0, le=MAX_LOSS)]
Point = tuple[Number, Nats]
Value = str | bool | int | Number | None
Kind = TypeVar("Kind")


class Part(BaseModel):
    """A piece of the document: all its fields are required, and no others are known."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Loss(Part):
    """On the validation part, under one protocol."""

    nats_per_char: Nats
    bits_per_char: Number
    perplexity: Number
    num_chars: Count


class EightBits(Part):
    """What the model loses by its weights' rounding to 8 bits, in which texts are written: `windowed_256` with and
    without, on the first `num_chars` characters of the validation part. None where a loss is not finite."""

    nats_per_char: Number | None
    exact_nats_per_char: Number | None
    """In float32."""
    num_chars: Count


class Published(Part):
    """A loss that others report, under a protocol, on the same validation bytes."""

    protocol: str
    system: str
    nats_per_char: Number


class Curves(Part):
    """Points (epoch, nats/char). Of a long training, a point of `training` is a mean over several rows."""

    training: list[Point]
    validation: list[Point]


class TextFigures(Part):
    """Of all texts of one temperature, or of held-out text, where it is None; see `evaluation/statistics.py`."""

    temperature: Number | None
    num_texts: Count
    num_chars: Count
    known_words: Share | None
    distinct_bigrams: Share | None
    longest_copied: Count | None
    copied: Share | None
    phrases: Share | None
    nats_per_char: Number | None


class Copy(Part):
    """A span of a text that the training text has once or twice, and where it is there first."""

    start: Count
    """In the text, from 0."""
    length: Annotated[int, Field(gt=0)]
    num_times: Annotated[int, Field(gt=0)]
    """It stands in the training text."""
    line: Annotated[int, Field(gt=0)]
    """In the training text, from 1; lines end with a newline."""
    column: Annotated[int, Field(gt=0)]
    before: str
    """What the training text has before it ..."""
    after: str
    """... and after it."""


class Sample(Part):
    """A generated text; `text` and `copies` may be only its beginning, `num_chars` is all."""

    prompt: str
    temperature: Number
    top_k: int | None
    top_p: Number
    seed: int
    text: str
    num_chars: Count
    nats_per_char: Number | None
    copies: list[Copy]


class ReviewDocument(Part):
    """All of one model."""

    schema_version: Literal[2, 3]
    """2: without copied spans, which that version told by another rule, and without the name of the corpus."""
    model_sha256: str
    corpus: str | None
    """The name of its file."""
    corpus_sha256: str
    validation_sha256: str
    """Of the validation part as UTF-8: losses can be compared where it is the same."""
    num_layers: Count
    hidden_size: Count
    num_parameters: Count
    vocab_size: Count
    num_train_chars: Count
    num_val_chars: Count
    num_epochs: Count
    best_epoch: Count
    parameters: dict[str, Value]
    """By dotted name; lists as JSON, and what is very long is cut and has its hash."""
    losses: dict[str, Loss]
    eight_bits: EightBits
    published: list[Published]
    curves: Curves
    figures: list[TextFigures]
    """One for each temperature, then the held-out text's."""
    samples: list[Sample]
    num_samples: Count
    """All that were generated; `samples` may be the first of them."""


def write_document(path: Path, document: ReviewDocument) -> None:
    """Write `review.json`."""
    write_text(path, json.dumps(document.model_dump(mode="json"), indent=1, allow_nan=False) + "\n")


def read_review(path: Path) -> ReviewDocument:
    """Read and check `review.json`.

    Raises:
        ReviewError: it is missing, no JSON, of another schema or damaged.
    """
    try:
        return _validated(ReviewDocument, _without_old_rule(read_json(path)))
    except OSError as error:
        raise ReviewError(f"{path}: cannot read the review: {error.strerror}; `dvc repro sample` writes it") from None
    except ValueError as error:
        raise ReviewError(
            f"{path}: expected the review of a model, schema 3, found something else ({error}); "
            "`dvc repro --force sample` rewrites it"
        ) from None


def read_losses(path: Path) -> dict[str, Loss]:
    """The losses by protocol that the evaluate stage wrote.

    Raises:
        HistoryError: they are missing or damaged.
    """
    try:
        return _validated(dict[str, Loss], read_json(path))
    except OSError as error:
        raise HistoryError(
            f"{path}: cannot read the losses: {error.strerror}; `dvc repro evaluate` writes them"
        ) from None
    except ValueError as error:
        raise HistoryError(
            f"{path}: expected losses by protocol, found something else ({error}); `dvc repro evaluate` rewrites it"
        ) from None


def _without_old_rule(content: Any) -> Any:  # noqa: ANN401  # a document can be anything
    """A document of version 2 with the fields of 3, and without what another rule counted."""
    if not isinstance(content, dict) or content.get("schema_version") != 2:
        return content
    unknown = {"longest_copied": None, "copied": None, "phrases": None}
    figures, samples = _with(content.get("figures"), unknown), _with(content.get("samples"), {"copies": []})
    return {**content, "corpus": None, "figures": figures, "samples": samples}


def _with(rows: Any, values: dict[str, Any]) -> Any:  # noqa: ANN401  # a document can be anything
    if not isinstance(rows, list):
        return rows
    return [{**row, **values} if isinstance(row, dict) else row for row in rows]


def _validated(kind: type[Kind], content: Any) -> Kind:  # noqa: ANN401  # a document can be anything
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:100]
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None
