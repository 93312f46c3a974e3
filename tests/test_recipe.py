"""Which recipe parameters are: the shipped ones, changed ones, and a damaged `conf/`."""

import shutil
from pathlib import Path

import pytest

from benchmarks.projects import ROOT, write_params
from charlstm.params import load_params
from pipeline.common.composing import compose_params
from pipeline.common.recipe import Recipe, recipe_of

CONF = ROOT / "conf"
RECIPES = sorted(file.stem for file in (CONF / "recipe").glob("*.yaml"))


@pytest.mark.parametrize("name", RECIPES)
def test_each_shipped_recipe_is_recognized(name: str) -> None:
    assert recipe_of(compose_params(ROOT / "conf", [f"recipe={name}"]), CONF) == Recipe(name, {})


@pytest.mark.parametrize(
    ("overrides", "label", "full"),
    [
        (["train.seed=7", "train.precision=fp32"], "quick", "quick"),  # no recipe decides these
        (["train.epochs=3"], "quick (epochs=3)", "quick, train.epochs=3"),
        (["recipe=best", "train.muon.learning_rate=0.06"], "best (muon.learning_rate=0.06)", None),
        (["train.gradient_clip_norm=null"], "quick (gradient_clip_norm=null)", None),
        (["train.validation=sliding"], "quick (validation=sliding)", None),  # which `original` decides
        (["train.epochs=3", "train.batch_size=8", "model.hidden_size=9"], "quick (3 changes)", None),
    ],
)
def test_what_differs_is_named(overrides: list[str], label: str, full: str | None) -> None:
    recipe = recipe_of(compose_params(ROOT / "conf", overrides), CONF)
    assert recipe.label == label
    assert full is None or recipe.full == full


def test_parameters_that_are_far_from_any_recipe_are_their_own(tmp_path: Path) -> None:
    write_params(tmp_path, {})
    tiny = load_params(tmp_path / "params.yaml")
    assert recipe_of(tiny, CONF) == recipe_of(tiny, tmp_path / "conf") == Recipe(None, {})
    assert recipe_of(tiny, CONF).label == recipe_of(tiny, CONF).full == "own parameters"


DAMAGED = [b"", b"[1]", b"a: [", b"\xff", b"defaults: [quick]", b"defaults: [missing]", b"defaults: 3", b"model: 3"]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_recipe_fails_nothing(content: bytes, tmp_path: Path) -> None:
    shutil.copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf/recipe/quick.yaml").write_bytes(content)
    assert recipe_of(compose_params(ROOT / "conf", []), tmp_path / "conf").name != "quick"
