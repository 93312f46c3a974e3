"""The parts of a review, from texts that are hardly there to more than a page holds."""

import math

import pytest

from charlstm.history import EpochRow, StepRow, Tables, table
from charlstm.model.model_folder import TrainedModel
from charlstm.model.shape import ModelShape
from charlstm.review import collect
from charlstm.review.collect import Corpus, SampleRow, review_of
from charlstm.review.document import Loss, ReviewDocument
from charlstm.review.page import page_of
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab
from tests.support.models import random_model

VOCAB = Vocab.of("abcdefgh \n")
EPOCHS = [EpochRow(1, 10, 2.0, 2.5), EpochRow(2, 20, 1.5, 2.25), EpochRow(3, 30, 1.0, 2.75)]
STEPS = [StepRow(5, 1, math.nan, 0.1, 1.0), StepRow(10, 1, 2.0, 0.1, 1.0)]
TABLES = Tables(table(EPOCHS, EpochRow._fields), table(STEPS, StepRow._fields))
LOSSES = {"stateful": Loss(nats_per_char=2.5, bits_per_char=3.6, perplexity=12.2, num_chars=99)}
TRAIN = "a bad cab\nfed a beg head a decade had faded a head\nabc"


@pytest.fixture(scope="module")
def trained() -> TrainedModel:
    # Its predictions are worse than chance.
    model = random_model(ModelShape(len(VOCAB), 4, 8, 2, 0), "fused", factor=9)
    return TrainedModel(model, VOCAB, "0" * 64)


def generated(text: str, prompt: str = "\n", temperature: float = 0.8, seed: int = 1) -> SampleRow:
    return SampleRow(prompt, temperature, None, 1.0, 0.0, seed, text)


def collected(trained: TrainedModel, texts: list[SampleRow]) -> ReviewDocument:
    train, val = (EncodedText(VOCAB.encode(text)) for text in (TRAIN, "had a bad cab"))
    corpus = Corpus("some text", "1" * 64, train, val)
    parameters: dict[str, dict[str, object]] = {
        "evaluate": {"max_chars": None, "published": None},
        "a": {"b": 1, "c": [1, "ü"], "d": "x" * 2000},
    }
    return review_of(trained, corpus, TABLES, LOSSES, parameters, texts)


def test_a_copy_is_marked_where_it_stands(trained: TrainedModel) -> None:
    (sample,) = collected(trained, [generated("ha head a decade had faded a hea")]).samples
    (copy,) = sample.copies
    copied = " head a decade had faded a hea"
    assert sample.text[copy.start : copy.start + copy.length] == copied
    assert (copy.start, copy.num_times, copy.line, copy.column) == (2, 1, 2, 10)


def test_figures_are_by_temperature_and_of_held_out_text(trained: TrainedModel) -> None:
    texts = [
        generated("abc def", temperature=one, seed=seed)
        for one in (0.5, 1.0, 0.5)
        for seed in (1, 2)
    ]
    found = collected(trained, texts)
    rows = [(row.temperature, row.num_texts) for row in found.figures]
    assert rows == [(0.5, 4), (1.0, 2), (None, 4)]
    assert (found.num_samples, found.best_epoch, found.published) == (6, 2, [])
    assert found.curves.training == [(1.0, 2.0)] and len(found.curves.validation) == 3
    assert (found.parameters["a.b"], found.parameters["a.c"]) == (1, '[1, "ü"]')
    assert len(str(found.parameters["a.d"])) < 1010
    nats = found.samples[0].nats_per_char
    assert nats is not None and nats > math.log(len(VOCAB))


def test_more_than_a_document_holds_is_cut_and_counted(
    trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "MAX_SAMPLES", 3)
    monkeypatch.setattr(collect, "MAX_CHARS", 90)
    texts = [generated("bad cafe " * 20 + TRAIN[-30:], seed=seed) for seed in range(5)]
    found = collected(trained, texts)
    shown = [(len(one.text), one.num_chars, one.copies) for one in found.samples]
    assert shown == [(30, 210, [])] * 3
    assert found.num_samples == found.figures[0].num_texts == 5
    assert (found.figures[0].longest_copied or 0) >= 30
    assert "the first 3 of 5 texts" in page_of(found)
