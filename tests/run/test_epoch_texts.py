"""A fault while a text is written after an epoch costs only that text."""

import multiprocessing
import os
import signal
import time

import pytest

from charlstm.generation.sampler import Sampler
from charlstm.history import EpochRow, StepRow
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import ModelShape
from charlstm.text.vocabulary import Vocab
from pipeline.run.epoch_texts import EpochTexts, WrittenText
from tests.support.models import random_model

VOCAB = Vocab.of("abc\n")
ROW = EpochRow(1, 10, 1.0, 1.0)


def model() -> CharLSTM:
    return random_model(ModelShape(len(VOCAB), 2, 4, 1))


def test_the_texts_are_those_of_the_sampler() -> None:
    shown: list[tuple[int, list[WrittenText]]] = []
    show = [lambda epoch, texts: shown.append((epoch, list(texts)))]
    one = EpochTexts(["a", "bc"], VOCAB, 3, show)
    one.on_epoch(ROW, model(), 0.0)
    one.finish()
    expected = Sampler(model(), VOCAB).generate(one._requests)
    assert shown == [(1, [("a", expected[0].text), ("bc", expected[1].text)])]


def test_a_fault_of_the_sampler_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults = {
        "-11": lambda *_: os.kill(os.getpid(), signal.SIGSEGV),
        "not finished after": lambda *_: time.sleep(100),
    }
    shown: list[int] = []
    one = EpochTexts(["a"], VOCAB, 3, [lambda epoch, texts: shown.append(epoch)])
    for reason, fault in faults.items():
        monkeypatch.setattr(Sampler, "generate", fault)
        monkeypatch.setattr("pipeline.run.epoch_texts.SECONDS", 30 if reason == "-11" else 0.5)
        caplog.clear()
        one.on_epoch(ROW, model(), 0.0)
        one.finish()
        assert reason in caplog.text and not shown


def test_training_does_not_wait_for_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    monkeypatch.setattr(Sampler, "generate", lambda *_: time.sleep(100))
    with EpochTexts(["a"], VOCAB, 3, [lambda epoch, texts: shown.append(epoch)]) as texts:
        started = time.monotonic()
        texts.on_epoch(ROW, model(), 0.0)
        texts.on_steps(StepRow(11, 2, 1.0, 1.0, 1.0), 1.0, 1)
        (process,) = multiprocessing.active_children()
    assert time.monotonic() - started < 10 and not shown
    process.join(10)
    assert process.exitcode == -signal.SIGKILL


def test_a_process_that_cannot_start_costs_only_its_texts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fork() -> int:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(os, "fork", fork)
    one = EpochTexts(["a"], VOCAB, 3, [])
    one.on_epoch(ROW, model(), 0.0)
    one.finish()
    assert "no texts were generated ([Errno 12] Cannot allocate memory)" in caplog.text


def test_texts_come_with_a_later_step_from_few_processes() -> None:
    shown: list[int] = []
    with EpochTexts(["a"], VOCAB, 3, [lambda epoch, texts: shown.append(epoch)]) as texts:
        for epoch in range(1, 9):
            texts.on_epoch(ROW._replace(epoch=epoch), model(), 0.0)
            assert len(multiprocessing.active_children()) <= 4
        for process in multiprocessing.active_children():
            process.join(60)
        texts.on_steps(StepRow(11, 2, 1.0, 1.0, 1.0), 1.0, 1)
        assert shown == list(range(1, 9))
