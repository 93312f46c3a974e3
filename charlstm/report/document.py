"""`review.json`: all that a review page shows of one model, and what the page of several is made from.

It has no times, hosts, paths or run ids: the same model, texts and parameters give the same bytes. Other fields are a
new `schema_version`.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from charlstm.evaluation.results import (
    HEADLINE,
    Count,
    Document,
    LossCurves,
    Nats,
    Number,
    TextFigures,
    read_document,
)
from charlstm.params import PublishedLoss

if TYPE_CHECKING:
    from charlstm.evaluation.difference import Blocks

DOCUMENT, PAGE = "review.json", "review.html"
Value = str | bool | int | Number | None


class Loss(Document):
    """A loss on the validation part, under one protocol."""

    nats_per_char: Nats
    bits_per_char: Number
    perplexity: Number
    num_chars: Count


def in_order(losses: Mapping[str, Loss]) -> list[str]:
    """The protocols, the headline first."""
    return sorted(losses, key=lambda protocol: protocol != HEADLINE)


class Copy(Document):
    """A span of a text that the training text has once or twice, and where it is there first."""

    start: Count
    """In the text, from 0."""
    length: Annotated[int, Field(gt=0)]
    num_times: Annotated[int, Field(gt=0)]
    """It stands in the training text."""
    line: Annotated[int, Field(gt=0)]
    """In the training text, from 1; lines end with a newline."""
    column: Annotated[int, Field(gt=0)]


class Sample(Document):
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


class ReviewDocument(Document):
    """The review of one model."""

    schema_version: Literal[4]
    model_sha256: str
    corpus: str
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
    published: list[PublishedLoss]
    curves: LossCurves
    figures: list[TextFigures]
    """One for each temperature, then the held-out text's."""
    samples: list[Sample]
    num_samples: Count
    """All that were generated; `samples` may be the first of them."""


class ReviewedModel(NamedTuple):
    """By its label, its review, and its blocks and its recipe's name if they are known."""

    label: str
    document: ReviewDocument
    blocks: "Blocks | None"
    recipe: str | None = None

    @property
    def loss(self) -> float:
        """By the protocol of the blocks."""
        return self.document.losses[HEADLINE].nats_per_char


read_review = partial(
    read_document, kind=ReviewDocument, what="the review of a model", stage="sample"
)
read_losses = partial(
    read_document, kind=dict[str, Loss], what="losses by protocol", stage="evaluate"
)
