"""Texts after an epoch. A fault while they are generated costs only these texts."""

from collections.abc import Sequence

import pytest

from charlstm.generation.sampler import Sampler
from charlstm.history import EpochRow
from charlstm.model.shape import ModelShape
from charlstm.text.vocabulary import Vocab
from pipeline.run.epoch_texts import EpochTexts
from tests.support.models import random_model

VOCAB = Vocab.of("abc\n")
MODEL = random_model(ModelShape(len(VOCAB), 2, 4, 1))
ROW = EpochRow(1, 10, 1.0, 1.0)


def test_the_texts_are_those_of_the_sampler() -> None:
    shown: list[tuple[int, Sequence[tuple[str, str]]]] = []
    observer = EpochTexts(["a", "bc"], VOCAB, 3, [lambda *texts: shown.append(texts)])
    observer.on_epoch(ROW, MODEL, 0.0)
    first, second = Sampler(MODEL, VOCAB).generate(observer._requests)
    assert shown == [(1, [("a", first.text), ("bc", second.text)])]


def test_a_fault_of_the_sampler_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    shown: list[object] = []
    # The model's vocabulary lacks this character.
    observer = EpochTexts(["x"], VOCAB, 3, [lambda *texts: shown.append(texts)])
    observer.on_epoch(ROW, MODEL, 0.0)
    assert caplog.text.count("epoch 1: no texts were generated") == 1
    assert not shown
