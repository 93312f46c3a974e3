"""What goes wrong while a text is written after an epoch costs that text, and no training."""

import os
import signal
import time

import pytest
import torch

from charlstm.generation.sampler import Sampler
from charlstm.history import EpochRow
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import ModelShape
from charlstm.text.vocabulary import Vocab
from pipeline.run.console import EpochTexts, WrittenText

VOCAB = Vocab.of("abc\n")
ROW = EpochRow(1, 10, 1.0, 1.0)


def model() -> CharLSTM:
    torch.manual_seed(0)
    return CharLSTM(ModelShape(len(VOCAB), 2, 4, 1), "gates")


def test_the_texts_are_those_of_the_sampler() -> None:
    shown: list[tuple[int, list[WrittenText]]] = []
    one = EpochTexts(
        ["a", "bc"], VOCAB, 3, [lambda epoch, texts: shown.append((epoch, list(texts)))]
    )
    one.on_epoch(ROW, model(), 0.0)
    expected = Sampler(model(), VOCAB).generate(one._requests)
    assert shown == [(1, [("a", expected[0].text), ("bc", expected[1].text)])]


def test_a_fault_of_the_sampler_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = {
        "-11": lambda *_: os.kill(os.getpid(), signal.SIGSEGV),
        "not done after": lambda *_: time.sleep(100),
    }
    for reason, fault in faults.items():
        monkeypatch.setattr(Sampler, "generate", fault)
        monkeypatch.setattr("pipeline.run.console.SECONDS", 30 if reason == "-11" else 0.5)
        shown: list[int] = []
        caplog.clear()
        EpochTexts(["a"], VOCAB, 3, [lambda epoch, texts: shown.append(epoch)]).on_epoch(
            ROW, model(), 0.0
        )  # noqa: B023
        assert reason in caplog.text and not shown
