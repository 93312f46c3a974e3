"""The content of a model's review, collected from the model, its texts and its tables."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from charlstm.evaluation.results import LossCurves, Point, TextFigures
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

MAX_POINTS = 500  # per curve
# Limits for the samples in a review. The statistics in a review include all texts.
MAX_SAMPLES = 200
MAX_CHARS = 400_000
MAX_VALUE_LEN = 1_000  # characters of a parameter's value


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
    """Measure the generated texts, and return the review of the model.

    Args:
        generated: texts of the model, at least one.
        published: losses that others reported for the measured validation text.
        parameters: for each section of `params.yaml`, its values by name.
        corpus: name of the corpus.
        validation_sha256: SHA-256 of the measured validation text.
    """
    decode = trained.vocab.decode
    train, val = (decode(text.first(MAX_SEARCHED).ids) for text in (train_text, val_text))
    texts = [PromptedText(row.prompt, row.text) for row in generated]
    temperatures = [row.temperature for row in generated]
    # Measure as much held-out text as was generated at the first temperature.
    like = [
        text
        for text, row in zip(texts, generated, strict=True)
        if row.temperature == temperatures[0]
    ]
    held = held_out(val, like)
    measured = measure([*texts, *held], train, trained.model, trained.vocab)

    shape = trained.model.shape
    best_row = tables.epochs["val_nats_per_char"].argmin()
    return ReviewDocument(
        schema_version=4,
        model_sha256=trained.sha256,
        corpus=corpus,
        corpus_sha256=corpus_sha256,
        validation_sha256=validation_sha256,
        num_layers=shape.num_layers,
        hidden_size=shape.hidden_size,
        num_parameters=shape.num_parameters,
        vocab_size=len(trained.vocab),
        num_train_chars=train_text.num_chars,
        num_val_chars=val_text.num_chars,
        num_epochs=len(tables.epochs),
        best_epoch=int(tables.epochs["epoch"].iloc[best_row]),
        parameters={name: _value(value) for name, value in flatten(parameters).items()},
        losses=dict(losses),
        published=[loss for loss in published if loss.protocol in losses],
        curves=_curves(tables),
        figures=_figures(measured, [*temperatures, *[None] * len(held)]),
        samples=_samples(generated, measured, train),
        num_samples=len(generated),
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


def _samples(
    generated: Sequence[SampleRow], measured: Sequence[Measured], train: str
) -> list[Sample]:
    size = MAX_CHARS // min(len(generated), MAX_SAMPLES)
    samples = []
    for row, counts in zip(generated[:MAX_SAMPLES], measured, strict=False):
        fields = row._replace(text=row.text[:size])._asdict()
        del fields["min_p"]  # the page already shows `min_p` among the parameters
        spans = [one for one in counts.spans if one.is_copied and one.start + one.length <= size]
        samples.append(
            Sample(
                **fields,
                num_chars=len(row.text),
                nats_per_char=figures([counts], None).nats_per_char,
                copies=[copy_of(span, train) for span in spans],
            )
        )
    return samples


def copy_of(span: Span, train: str) -> Copy:
    """Return a copied span with its line and column in the training text, both counted from 1.

    A newline belongs to the line that it ends.
    """
    line = train.count("\n", 0, span.train_start) + 1
    column = span.train_start - train.rfind("\n", 0, span.train_start)
    return Copy(
        start=span.start, length=span.length, num_times=span.num_times, line=line, column=column
    )
