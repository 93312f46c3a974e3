"""Recipes are valid, records belong to their training, and the benchmark's memory is bounded."""

import re
import sys
from pathlib import Path

import pytest

from benchmarks import pipeline
from tests.support.projects import ROOT, compose

NAMES = sorted(file.stem for file in (ROOT / "conf/recipe").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_is_valid_and_differs_only_in_model_and_training(name: str) -> None:
    default = compose(ROOT)
    recipe = compose(ROOT, [f"recipe={name}"])
    assert (recipe == default) == (name == "quick")
    same = {"model": default.model, "train": default.train}
    assert recipe.model_copy(update=same) == default


@pytest.mark.slow
def test_the_memory_of_the_stages_before_training_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["pipeline", "--gigabytes", "0.06"])
    assert pipeline.main() == 0
    memory = [int(megabytes) for megabytes in re.findall(r"(\d+) MB", capsys.readouterr().out)]
    assert len(memory) == 3
    assert all(0 < megabytes < 50 for megabytes in memory), "less than the text has"
