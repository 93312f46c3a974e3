"""What a model writes reaches the terminal as text, never as a command to it."""

import contextlib
import json
import logging
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
from stages import run_stages

from benchmarks.projects import write_params
from charlstm.history import EpochRow, StepRow
from charlstm.training.progress import Plan, Progress
from pipeline.stage import console
from pipeline.stage.console import TrainingConsole
from pipeline.stage.terminal import printable


def test_control_characters_are_escaped_and_layout_stays() -> None:
    assert printable("a\tb\r\nc\x1b[31m\x00\x07\rd\x7f\x9b\u202ee\u2028f") == (
        "a\tb\nc\\x1b[31m\\x00\\x07\\rd\\x7f\\x9b\\u202ee\\u2028f"
    )
    assert printable("Grüße, 😀 \\x1b") == "Grüße, 😀 \\x1b"
    assert printable("Grüße, 😀\n", "ascii") == "Gr\\xfc\\xdfe, \\U0001f600\n"


def test_the_text_of_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    watch = TrainingConsole()
    watch.on_start(Plan(1, 10, 1000, 99, 1, "cpu", "fp32", "because", "character"), Progress())
    capsys.readouterr()
    watch.show_texts(1, [("\n", "one\x1b]0;title\x07\x0ctwo\nthree\nfour")])
    watch.close()
    shown = capsys.readouterr().err
    assert "    \n    one\\x1b]0;title\\x07\\x0ctwo\n    three\n" in shown
    assert "\x1b" not in shown and "four" not in shown


def test_a_terminal_that_is_gone_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that nobody reads, as after `| head`; of a lost terminal, writing is an error, too."""
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w", buffering=1)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        watch = TrainingConsole()
        watch.on_start(Plan(1, 10, 1000, 99, 1, "cpu", "fp32", "because", "character"), Progress())
        watch.on_steps(StepRow(5, 1, 2.0, 0.1, 0.5), 500.0)
        watch.on_epoch(EpochRow(1, 10, 2.0, 2.0), None, 1.0)  # type: ignore[arg-type]  # the model is not shown
        watch.close()
    with contextlib.suppress(BrokenPipeError):  # what could not be written is tried once more
        stream.close()


def test_the_time_left_is_that_of_steps_without_the_pauses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 of 400 steps are done at 5 steps a second, and a long validation."""
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0)
    watch = TrainingConsole()
    watch.on_start(Plan(4, 400, 10_000, 99, 1, "cpu", "fp32", "because", "character"), Progress(step=20))
    watch.on_steps(StepRow(40, 1, 2.0, 0.1, 0.5), 0.0)  # all of this start were skipped
    watch.on_steps(StepRow(60, 1, 2.0, 0.1, 0.5), 500.0)
    time.sleep(1)
    watch.on_steps(StepRow(100, 1, 2.0, 0.1, 0.5), 500.0)
    watch.close()
    assert "step 100/400  loss 2.000  0.5 k chars/s  0:01:00 left" in capsys.readouterr().err


def test_training_says_that_it_stopped_early(encoded: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    project = tmp_path / "project"
    shutil.copytree(encoded, project)
    write_params(project, {"train.epochs": 40, "train.learning_rate": 0.05, "train.early_stopping_epochs": 2})
    caplog.set_level(logging.INFO, "charlstm")
    run_stages(project, "train")
    metrics = json.loads((project / "artifacts/train/metrics.json").read_text())
    last, best = metrics["num_epochs"], metrics["best_epoch"]
    assert last == best + 2 < 40
    said = f"stopped after epoch {last} of 40: epoch {best} is the best, and 2 after it were not better"
    assert said in caplog.text
