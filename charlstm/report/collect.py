"""Makes the document that the review page shows, from a model, its texts and its tables."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from charlstm.evaluation.results import LossCurves, Point
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
from charlstm.params import PublishedLoss
from charlstm.report.document import Copy, Loss, ReviewDocument, Sample, Value
from charlstm.text.encoded import EncodedText

MAX_POINTS = 500  # of a curve
MAX_SAMPLES, MAX_CHARS = 200, 400_000  # what a document holds of the texts; figures are of all
MAX_VALUE_LEN = 1_000  # characters of a parameter


class SampleRow(NamedTuple):
    """A text, and what it was drawn with: a row of `samples.csv`."""

    prompt: str
    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    seed: int
    text: str


def review_of(
    trained: TrainedModel,
    train_text: EncodedText,
    val_text: EncodedText,
    tables: Tables,
    losses: Mapping[str, Loss],
    generated: Sequence[SampleRow],
    *,
    published: Sequence[PublishedLoss],
    parameters: Mapping[str, Mapping[str, Any]],
    corpus: str,
    corpus_sha256: str,
    validation_sha256: str,
) -> ReviewDocument:
    """Measure the texts, and put together what a review shows.

    Args:
        published: what others reported for the validation text that was measured, whose hash is given.
        parameters: by section, as `params.yaml` has them.
        corpus: its name.
    """
    train, val = (
        trained.vocab.decode(text.first(MAX_SEARCHED).ids) for text in (train_text, val_text)
    )
    passages = [PromptedText(one.prompt, one.text) for one in generated]
    alike = [
        one
        for one, row in zip(passages, generated, strict=True)
        if row.temperature == generated[0].temperature
    ]
    measured = measure([*passages, *held_out(val, alike)], train, trained.model, trained.vocab)
    ours, theirs = measured[: len(passages)], measured[len(passages) :]
    by_temperature: dict[float | None, list[Measured]] = defaultdict(list)
    for row, one in zip(generated, ours, strict=True):
        by_temperature[row.temperature].append(one)
    by_temperature[None] = theirs
    return ReviewDocument(
        schema_version=4,
        model_sha256=trained.sha256,
        corpus=corpus,
        corpus_sha256=corpus_sha256,
        validation_sha256=validation_sha256,
        num_layers=trained.model.shape.num_layers,
        hidden_size=trained.model.shape.hidden_size,
        num_parameters=trained.model.shape.num_parameters,
        vocab_size=len(trained.vocab),
        num_train_chars=train_text.num_chars,
        num_val_chars=val_text.num_chars,
        num_epochs=len(tables.epochs),
        best_epoch=int(tables.epochs["epoch"].iloc[tables.epochs["val_nats_per_char"].argmin()]),
        parameters={name: _value(value) for name, value in flatten(parameters).items()},
        losses=dict(losses),
        published=[one for one in published if one.protocol in losses],
        curves=_curves(tables),
        figures=[figures(texts, temperature) for temperature, texts in by_temperature.items()],
        samples=_samples(generated, ours, train),
        num_samples=len(generated),
    )


def thinned(points: Sequence[Point], most: int = MAX_POINTS) -> list[Point]:
    """At most `most` points: means of as many neighbors as that takes. Points that are not finite are left out."""
    finite = np.array([point for point in points if np.isfinite(point).all()], float).reshape(-1, 2)
    size = -(-len(finite) // most)
    means = [finite[start : start + size].mean(0) for start in range(0, len(finite), max(1, size))]
    return [(round(float(x), 4), round(float(y), 5)) for x, y in means]


def _value(value: object) -> Value:
    """A parameter as a review has it: lists as JSON, and only the beginning of long texts."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE_LEN else f"{text[:MAX_VALUE_LEN]}..."


def _curves(tables: Tables) -> LossCurves:
    steps_per_epoch = tables.epochs["step"].iloc[0]

    def points(x: pd.Series, y: pd.Series) -> list[Point]:
        return thinned(list(zip(x.astype(float), y.astype(float), strict=True)))

    return LossCurves(
        training=points(
            tables.steps["step"] / steps_per_epoch, tables.steps["train_nats_per_char"]
        ),
        validation=points(tables.epochs["epoch"], tables.epochs["val_nats_per_char"]),
    )


def _samples(
    generated: Sequence[SampleRow], measured: Sequence[Measured], train: str
) -> list[Sample]:
    kept = list(zip(generated, measured, strict=True))[:MAX_SAMPLES]
    size = MAX_CHARS // max(1, len(kept))
    return [
        Sample(
            **{
                name: value for name, value in one._asdict().items() if name != "min_p"
            }  # which the parameters have
            | {"text": one.text[:size]},
            num_chars=len(one.text),
            nats_per_char=figures([counted], one.temperature).nats_per_char,
            copies=[
                copy_of(span, train)
                for span in counted.spans
                if span.is_copied and span.start + span.length <= size
            ],
        )
        for one, counted in kept
    ]


def copy_of(span: Span, train: str) -> Copy:
    """A span with its line and column in the training text, both from 1; a line ends with its newline."""
    line = train.count("\n", 0, span.train_start) + 1
    column = span.train_start - train.rfind("\n", 0, span.train_start)
    return Copy(
        start=span.start, length=span.length, num_times=span.num_times, line=line, column=column
    )
