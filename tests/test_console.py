"""What a model writes reaches the terminal as text, never as a command to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.training.history import EpochRow, TextRow
from charlstm.training.observer import Plan
from charlstm.training.progress import Progress
from pipeline.common.console import TrainingConsole, printable


def test_control_characters_are_escaped_and_layout_stays() -> None:
    assert printable("a\tb\r\nc\x1b[31m\x00\x07\rd\x7f\x9b\u202ee\u2028f") == (
        "a\tb\nc\\x1b[31m\\x00\\x07\\rd\\x7f\\x9b\\u202ee\\u2028f"
    )
    assert printable("Grüße, 😀 \\x1b") == "Grüße, 😀 \\x1b"
    assert printable("Grüße, 😀\n", "ascii") == "Gr\\xfc\\xdfe, \\U0001f600\n"


@given(st.text())
def test_any_text_can_be_shown(text: str) -> None:
    shown = printable(text, "latin1")
    assert shown.encode("latin1").decode("latin1") == shown
    assert all(one in "\t\n" or one.isprintable() or one in "\xa0\xad" for one in shown)


def test_the_text_of_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    console = TrainingConsole()
    console.on_start(Plan(1, 10, 1000, 99, 1, "cpu", "float32"), Progress())
    capsys.readouterr()
    console.on_epoch(EpochRow(1, 10, 2.0, 1.9), [TextRow(1, "\n", "one\x1b]0;title\x07\x0ctwo\nthree\nfour")], 2.0)
    console.close()
    shown = capsys.readouterr().err
    assert "\n    \n    one\\x1b]0;title\\x07\\x0ctwo\n    three\n" in shown
    assert "\x1b" not in shown and "four" not in shown
