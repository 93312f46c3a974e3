"""What goes wrong while a text is written after an epoch costs that text, and no training."""

import logging
import os
import signal
import time

import pytest
import torch

from charlstm.generation.sampler import Generated, Request, Sampler
from charlstm.history import EpochRow
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import ModelShape
from charlstm.text.vocabulary import Vocab
from pipeline.stage import epoch_texts
from pipeline.stage.epoch_texts import EpochTexts, WrittenText

VOCAB = Vocab.of("abc\n")
ROW = EpochRow(1, 10, 1.0, 1.0)


def model() -> CharLSTM:
    torch.manual_seed(0)
    return CharLSTM(ModelShape(len(VOCAB), 2, 4, 1), "gates")


def test_the_texts_are_those_of_the_sampler() -> None:
    shown: list[tuple[int, list[WrittenText]]] = []
    one = EpochTexts(["a", "bc"], VOCAB, 3, [lambda epoch, texts: shown.append((epoch, list(texts)))])
    one.on_epoch(ROW, model(), 0.0)
    expected = Sampler(model(), VOCAB).generate(one._requests)
    assert shown == [(1, [("a", expected[0].text), ("bc", expected[1].text)])]


def segfault(sampler: Sampler, requests: list[Request]) -> list[Generated]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return []


def endless(sampler: Sampler, requests: list[Request]) -> list[Generated]:
    time.sleep(100)
    return []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (segfault, "its process ended with -11"),
        (endless, "not done after 0.5 seconds"),
    ],
)
def test_a_fault_of_the_sampler_is_a_warning(
    fault: object, reason: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Sampler, "generate", fault)
    monkeypatch.setattr(epoch_texts, "SECONDS", 0.5 if fault is endless else 30)
    shown: list[int] = []
    with caplog.at_level(logging.WARNING, "charlstm"):
        EpochTexts(["a"], VOCAB, 3, [lambda epoch, texts: shown.append(epoch)]).on_epoch(ROW, model(), 0.0)
    assert caplog.messages == [f"epoch 1: no texts were written ({reason}); training goes on"] and not shown
