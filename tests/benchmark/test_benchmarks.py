"""Every recipe is valid, a record holds for what it was trained with, and benchmarks say what they can know before."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import pipeline, recipes
from tests.support.projects import ROOT, compose
from tests.support.stages import PUBLISHED_DATA

NAMES = sorted(file.stem for file in (ROOT / "conf/recipe").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_is_valid_and_differs_only_in_model_and_training(name: str) -> None:
    default, recipe = compose(ROOT, []), compose(ROOT, [f"recipe={name}"])
    assert (recipe == default) == (name == "quick")
    same = {"model": default.model, "train": default.train}
    assert recipe.model_copy(update=same) == default


def test_a_record_holds_for_its_values_seed_and_text_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = recipes.values_of("quick")
    record = {"recipe": "quick", "seed": 1, "data": PUBLISHED_DATA, "values": values}
    last = {**record, "values": {**values, "train.gone": 1}}  # a parameter that there is no more
    others = [
        {**record, "seed": 2},
        {**record, "data": "another text's"},
        {**record, "recipe": "best"},
    ]
    others.append({**record, "values": {**values, "train.epochs": 99}})
    file = tmp_path / "recipes.jsonl"
    file.write_text("".join(f"{json.dumps(one)}\n" for one in (record, last, *others)))
    monkeypatch.setattr(recipes, "RECORDS", file)
    assert recipes.record_of("quick", 1, PUBLISHED_DATA) == last
    assert recipes.record_of("quick", 3, PUBLISHED_DATA) is None


def test_the_original_is_compared_epoch_by_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    record = {
        "by_epoch": [1.61, 1.55, 1.53, 1.53, 1.53],
        "train_by_epoch": [1.7, 1.4, 1.3, 1.3, 1.3],
    }
    assert recipes.against_the_original(record) == 0
    assert "| 1.6052 | 1.6100 | 1.6597 | 1.7000 |" in capsys.readouterr().out
    assert recipes.against_the_original({**record, "by_epoch": [1.61, 1.58, 1.53, 1.53, 1.53]}) == 1
    assert recipes.against_the_original({**record, "by_epoch": [1.61]}) == 1


@pytest.mark.slow
def test_what_the_processor_emulates_is_left_out_in_one_line() -> None:
    code = "from benchmarks.training import precisions; print(precisions('cpu'))"
    without = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=without, capture_output=True, text=True
    )
    assert done.stdout == "bf16 is left out: this hardware would emulate it\n['fp32']\n", (
        done.stderr
    )


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
