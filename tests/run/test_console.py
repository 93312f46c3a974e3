"""A model's texts reach the terminal as text, never as commands to it."""

import contextlib
import os
import sys

import pytest

from charlstm.history import EpochRow, StepRow
from charlstm.training.progress import Plan, Progress
from pipeline.run.console import TrainingConsole
from pipeline.run.terminal import printable


def test_control_characters_are_escaped_and_layout_stays() -> None:
    assert printable("a\tb\r\nc\x1b[31m\x00\x07\rd\x7f\x9b\u202ee\u2028f") == (
        "a\tb\nc\\x1b[31m\\x00\\x07\\rd\\x7f\\x9b\\u202ee\\u2028f"
    )
    assert printable("Grüße, 😀 \\x1b") == "Grüße, 😀 \\x1b"
    assert printable("Grüße, 😀\n", "ascii") == "Gr\\xfc\\xdfe, \\U0001f600\n"


def test_a_terminal_that_is_gone_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe without a reader, as after `| head`, fails like a lost terminal."""
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w", buffering=1)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        watch = TrainingConsole()
        watch.on_start(Plan(1, 10, 1000, 99, 1, "cpu", "fp32", "because", "character"), Progress())
        watch.on_steps(StepRow(5, 1, 2.0, 0.1, 0.5), 500.0, 64)
        watch.on_epoch(EpochRow(1, 10, 2.0, 2.0), None, 1.0)  # type: ignore[arg-type]  # no model
        watch.__exit__()
    with contextlib.suppress(BrokenPipeError):  # `close` tries to write the rest
        stream.close()
