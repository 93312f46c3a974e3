"""The sample stage's files have ASCII names, which tell prompts apart, whatever the locale."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stages import run_stage, run_stages

from benchmarks.projects import make_project
from charlstm.report.collect import SampleRow, file_name


def of_prompt(prompt: str) -> SampleRow:
    return SampleRow(prompt, 0.8, None, 1.0, 0.0, 1, "")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("\n", "newline"),  # as they have always been
        ("ROMEO:", "romeo"),
        ("To be, or not to be", "to-be-or-not-to-be"),
        ("def f(x_1): return x", "def-f-x_1-return-x"),
        ("O, that this too too solid flesh", "o-that-this-too-too-"),
        ("?!", "newline"),
        ("Ça é", "ca-e"),
        ("naïve", "naive"),
        ("😀", "u1f600"),
        ("😀😁", "u1f600-u1f601"),
        ("so — 😀", "so"),
        ("Да", "u434-u430"),
        ("\u0301", "u301"),
    ],
)
def test_words_of_a_prompt(prompt: str, words: str) -> None:
    assert file_name(7, of_prompt(prompt)) == f"07-{words}-temperature-0.8-seed-1.txt"


@given(st.text(min_size=1))
def test_names_are_ascii_and_short(prompt: str) -> None:
    name = file_name(0, of_prompt(prompt))
    assert name.isascii() and "/" not in name and len(name) < 60
    assert name.isprintable()


@pytest.mark.slow
def test_the_stage_in_an_ascii_locale(tmp_path: Path) -> None:
    project = tmp_path / "project"
    prompts = ["é", "😀", "😁", "\n"]
    make_project(project, {"sample.prompts": prompts}, "é😀 and 😁\n" * 300)
    run_stages(project, "download", "split", "encode", "train", "evaluate")
    done = run_stage(project, "sample", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0, done.stderr
    texts = sorted((project / "artifacts/samples").glob("*.txt"))
    assert [file.name.split("-")[1] for file in texts] == ["e", "u1f600", "u1f601", "newline"]
    assert [file.read_text("utf-8")[0] for file in texts] == prompts
    (tracked,) = (project / "mlartifacts").glob("**/samples/all.txt")
    assert all(file.read_text("utf-8") in tracked.read_text("utf-8") for file in texts)
