"""The content of a model's review, collected from the model, its texts and its tables."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from charlstm.evaluation.results import LossCurves, Point, TextFigures, published_for
from charlstm.evaluation.text_statistics import (
    MAX_SEARCHED,
    Measured,
    PromptedText,
    Span,
    figures,
    held_out,
    measure,
)
from charlstm.history import Tables
from charlstm.model.model_folder import TrainedModel
from charlstm.parameter_names import flatten
from charlstm.review.document import Copy, Loss, ReviewDocument, Sample, Value
from charlstm.text.encoded import EncodedText, text_sha256

MAX_POINTS = 500  # per curve
# Limits for the samples in a review. The statistics in a review include all texts.
MAX_SAMPLES = 200
MAX_CHARS = 400_000
MAX_VALUE_LEN = 1_000  # characters of a parameter's value


class Corpus(NamedTuple):
    """A text, split into the part for training and the part for validation."""

    name: str
    sha256: str
    train: EncodedText
    val: EncodedText


class SampleRow(NamedTuple):
    """A generated text with its sampling options: a row of `samples.csv`."""

    prompt: str
    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    seed: int
    text: str


def review_of(
    trained: TrainedModel,
    corpus: Corpus,
    tables: Tables,
    losses: Mapping[str, Loss],
    parameters: Mapping[str, Mapping[str, Any]],
    rows: Sequence[SampleRow],
) -> ReviewDocument:
    """Measure the generated texts, and return the review of the model.

    Args:
        parameters: for each section of `params.yaml`, its values by name.
        rows: texts of the model, at least one.
    """
    vocab = trained.vocab
    train, val = (vocab.decode(text.first(MAX_SEARCHED).ids) for text in (corpus.train, corpus.val))
    texts = [PromptedText(row.prompt, row.text) for row in rows]
    # Measure as much held-out text as was generated at the first temperature.
    temperatures = [row.temperature for row in rows]
    like = [
        text
        for text, temperature in zip(texts, temperatures, strict=True)
        if temperature == temperatures[0]
    ]
    held = held_out(val, like)
    measured = measure([*texts, *held], train, trained.model, vocab)

    section = parameters["evaluate"]
    validation_sha256 = text_sha256(corpus.val.first(section["max_chars"]).ids, vocab)
    published = published_for(validation_sha256, section["published"], vocab.unit)
    shape = trained.model.shape
    epochs = tables.epochs
    best_row = epochs["val_nats_per_char"].argmin()
    return ReviewDocument(
        schema_version=4,
        model_sha256=trained.sha256,
        corpus=corpus.name,
        corpus_sha256=corpus.sha256,
        validation_sha256=validation_sha256,
        num_layers=shape.num_layers,
        hidden_size=shape.hidden_size,
        num_parameters=shape.num_parameters,
        vocab_size=len(vocab),
        num_train_chars=corpus.train.num_chars,
        num_val_chars=corpus.val.num_chars,
        num_epochs=len(epochs),
        best_epoch=int(epochs["epoch"].iloc[best_row]),
        parameters={name: _value(value) for name, value in flatten(parameters).items()},
        losses=dict(losses),
        published=[loss for loss in published if loss.protocol in losses],
        curves=_curves(tables),
        figures=_figures(measured, [*temperatures, *[None] * len(held)]),
        samples=_samples(rows, measured, train),
        num_samples=len(rows),
    )


def _figures(
    measured: Sequence[Measured], temperatures: Sequence[float | None]
) -> list[TextFigures]:
    """Return the statistics for each temperature, in the order in which temperatures appear."""
    by_temperature: dict[float | None, list[Measured]] = defaultdict(list)
    for counts, temperature in zip(measured, temperatures, strict=True):
        by_temperature[temperature].append(counts)
    return [figures(several, temperature) for temperature, several in by_temperature.items()]


def thinned(points: Sequence[Point]) -> list[Point]:
    """Return at most `MAX_POINTS` finite points, each of which is a mean of neighboring points."""
    table = np.array(points, float).reshape(-1, 2)
    finite = table[np.isfinite(table).all(1)]
    size = max(1, -(-len(finite) // MAX_POINTS))
    means = [finite[start : start + size].mean(0) for start in range(0, len(finite), size)]
    return [(round(float(x), 4), round(float(y), 5)) for x, y in means]


def _value(value: object) -> Value:
    """Convert a parameter's value for the review. Lists become JSON, and long strings are cut."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE_LEN else f"{text[:MAX_VALUE_LEN]}..."


def _curves(tables: Tables) -> LossCurves:
    epochs = tables.epochs
    steps = tables.steps
    epoch = steps["step"] / epochs["step"].iloc[0]
    val = zip(epochs["epoch"], epochs["val_nats_per_char"], strict=True)
    return LossCurves(
        training=thinned(list(zip(epoch, steps["train_nats_per_char"], strict=True))),
        validation=thinned(list(val)),
    )


def _samples(rows: Sequence[SampleRow], measured: Sequence[Measured], train: str) -> list[Sample]:
    size = MAX_CHARS // min(len(rows), MAX_SAMPLES)
    samples = []
    for row, counts in zip(rows[:MAX_SAMPLES], measured, strict=False):
        copies = [
            locate(span, train)
            for span in counts.spans
            if span.is_copied and span.start + span.length <= size
        ]
        fields = row._replace(text=row.text[:size])._asdict()
        del fields["min_p"]  # the page already shows `min_p` among the parameters
        nats_per_char = figures([counts], None).nats_per_char
        samples.append(
            Sample(**fields, num_chars=len(row.text), nats_per_char=nats_per_char, copies=copies)
        )
    return samples


def locate(span: Span, train: str) -> Copy:
    """Return a copied span with its line and column in the training text, both counted from 1.

    A newline belongs to the line that it ends.
    """
    line = train.count("\n", 0, span.train_start) + 1
    column = span.train_start - train.rfind("\n", 0, span.train_start)
    return Copy(
        start=span.start, length=span.length, num_times=span.num_times, line=line, column=column
    )
