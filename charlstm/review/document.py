"""`review.json`: the content of a model's review page, from which comparison pages are also made.

The file has no times, hosts, paths or run ids, so that the same model, texts and parameters give
the same bytes. A change of its fields needs a new `schema_version`.
"""

from collections.abc import Mapping, Sequence
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

DOCUMENT = "review.json"
PAGE = "review.html"
SHOWN_TEMPERATURE = 0.8
Value = str | bool | int | Number | None
Positive = Annotated[int, Field(gt=0)]


class Loss(Document):
    """A loss on the validation part under one protocol."""

    nats_per_char: Nats
    bits_per_char: Number
    perplexity: Number
    num_chars: Count


def in_order(losses: Mapping[str, Loss]) -> list[str]:
    """Return the names of the protocols, with `HEADLINE` first."""
    return sorted(losses, key=lambda protocol: protocol != HEADLINE)


class Copy(Document):
    """A copied span of a text, and the span's first occurrence in the training text."""

    start: Count
    """Index of the first character in the text, from 0."""
    length: Positive
    num_times: Positive
    """Number of occurrences in the training text."""
    line: Positive
    """Line in the training text, from 1. A newline belongs to the line that it ends."""
    column: Positive
    """Column in the training text, from 1."""


class Sample(Document):
    """A generated text. `text` and `copies` may be cut, but `num_chars` counts the whole text."""

    prompt: str
    temperature: Number
    top_k: int | None
    top_p: Number
    seed: int
    text: str
    num_chars: Count
    nats_per_char: Number | None
    copies: list[Copy]


def typical_sample(samples: Sequence[Sample]) -> Sample | None:
    """Choose the sample to show first: one with a visible prompt and a medium temperature.

    Return None if there are no samples.
    """
    return min(
        samples,
        key=lambda one: (not one.prompt.strip(), abs(one.temperature - SHOWN_TEMPERATURE)),
        default=None,
    )


class ReviewDocument(Document):
    """The review of one model."""

    schema_version: Literal[4]
    model_sha256: str
    corpus: str
    """Name of the corpus."""
    corpus_sha256: str
    validation_sha256: str
    """SHA-256 of the measured validation text. Losses on equal texts are comparable."""
    num_layers: Count
    hidden_size: Count
    num_parameters: Count
    vocab_size: Count
    num_train_chars: Count
    num_val_chars: Count
    num_epochs: Count
    best_epoch: Count
    parameters: dict[str, Value]
    """Parameters by dotted name. A list is JSON. A long string is truncated and ends with "..."."""
    losses: dict[str, Loss]
    """Losses by protocol."""
    published: list[PublishedLoss]
    curves: LossCurves
    figures: list[TextFigures]
    """Statistics of the generated texts for each temperature, then of the held-out text."""
    samples: list[Sample]
    """The first generated texts."""
    num_samples: Count
    """Number of all generated texts."""


class ReviewedModel(NamedTuple):
    """A reviewed model that is compared with other models."""

    label: str
    """Name that the user entered for the model."""
    document: ReviewDocument
    blocks: "Blocks | None"
    """Loss on each block of the validation text. None if it is unknown."""
    recipe: str | None = None
    """Name of the recipe. None if it is unknown."""

    @property
    def loss(self) -> float:
        """Loss under the protocol `HEADLINE`, in nats per character."""
        return self.document.losses[HEADLINE].nats_per_char


read_review = partial(
    read_document, kind=ReviewDocument, what="the review of a model", stage="sample"
)
read_losses = partial(
    read_document, kind=dict[str, Loss], what="losses by protocol", stage="evaluate"
)
