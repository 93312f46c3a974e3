"""Every recipe is whole and valid, and a record holds for what it was trained with."""

import json
from pathlib import Path

import pytest
from stages import PUBLISHED_DATA

from benchmarks import recipes
from benchmarks.projects import ROOT, compose

NAMES = sorted(file.stem for file in (ROOT / "conf/recipe").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_each_recipe_is_valid_and_differs_only_in_model_and_training(name: str) -> None:
    default, recipe = compose(ROOT, []), compose(ROOT, [f"recipe={name}"])
    assert (recipe == default) == (name == "quick")
    same = {"model": default.model, "train": default.train}
    assert recipe.model_copy(update=same) == default


def test_a_record_holds_for_its_values_seed_and_text_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = recipes.values_of("quick")
    record = {"recipe": "quick", "seed": 1, "data": PUBLISHED_DATA, "values": values}
    last = {**record, "values": {**values, "train.gone": 1}}  # a parameter that there is no more
    others = [{**record, "seed": 2}, {**record, "data": "another text's"}, {**record, "recipe": "best"}]
    others.append({**record, "values": {**values, "train.epochs": 99}})
    file = tmp_path / "recipes.jsonl"
    file.write_text("".join(f"{json.dumps(one)}\n" for one in (record, last, *others)))
    monkeypatch.setattr(recipes, "RECORDS", file)
    assert recipes.record_of("quick", 1, PUBLISHED_DATA) == last
    assert recipes.record_of("quick", 3, PUBLISHED_DATA) is None


def test_the_original_is_compared_epoch_by_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"by_epoch": [1.61, 1.55, 1.53, 1.53, 1.53], "train_by_epoch": [1.7, 1.4, 1.3, 1.3, 1.3]}
    assert recipes.beside_the_original(record) == 0
    assert "| 1.6052 | 1.6100 | 1.6597 | 1.7000 |" in capsys.readouterr().out
    assert recipes.beside_the_original({**record, "by_epoch": [1.61, 1.58, 1.53, 1.53, 1.53]}) == 1
    assert recipes.beside_the_original({**record, "by_epoch": [1.61]}) == 1
