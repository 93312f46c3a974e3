"""Which recipe parameters are: the shipped ones, changed ones, and a damaged `conf/`."""

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.projects import ROOT, compose, write_params
from charlstm.errors import ParamsError
from charlstm.params import Params, load_params
from pipeline.stage.presets import CORPORA, RECIPES, Kind, Recipe, load, names, nearest, recipe_of


@pytest.mark.parametrize("name", names(RECIPES, ROOT))
def test_each_shipped_recipe_is_recognized(name: str) -> None:
    assert recipe_of(compose(ROOT, [f"recipe={name}"]), ROOT) == Recipe(name, {})


@pytest.mark.parametrize(
    ("overrides", "label", "full"),
    [
        (["train.seed=7", "train.precision=fp32"], "quick", "quick"),  # no recipe decides these
        (["train.epochs=3"], "quick · epochs 3", "quick · epochs 3"),
        (["recipe=best", "train.muon.learning_rate=0.05"], "best · muon.learning_rate 0.05", None),
        (["train.gradient_clip_norm=null"], "quick · gradient_clip_norm none", None),
        (["train.validation=sliding"], "quick · validation sliding", None),  # which `original` decides
        (
            ["train.epochs=3", "train.batch_size=8", "model.hidden_size=9", "train.ema_decay=0.9"],
            "quick · 4 changes",
            None,
        ),
    ],
)
def test_what_differs_is_named(overrides: list[str], label: str, full: str | None) -> None:
    recipe = recipe_of(compose(ROOT, overrides), ROOT)
    assert recipe.label == label
    assert full is None or recipe.full == full


def test_parameters_that_are_far_from_any_recipe_are_their_own(tmp_path: Path) -> None:
    write_params(tmp_path, {})
    tiny = load_params(tmp_path / "params.yaml")
    assert recipe_of(tiny, ROOT) == recipe_of(tiny, tmp_path) == Recipe(None, {})
    assert recipe_of(tiny, ROOT).label == recipe_of(tiny, ROOT).full == "parameters of no recipe"


DAMAGED = [b"", b"[1]", b"a: [", b"\xff", b"builds_on: quick", b"builds_on: missing", b"builds_on: 3", b"model: 3"]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_recipe_fails_nothing(content: bytes, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf/recipe/quick.yaml").write_bytes(content)
    assert recipe_of(compose(ROOT), tmp_path).name != "quick"
    with pytest.raises(ParamsError, match=r"quick|sections"):
        load(RECIPES, "best", tmp_path)


@pytest.mark.parametrize("kind", [RECIPES, CORPORA])
def test_every_preset_decides_the_same_parameters(kind: Kind) -> None:
    """So writing one after another leaves nothing of the first behind."""
    root = load(kind, kind.root, ROOT)
    known = set(Params.names())
    assert set(root.values) <= known
    found = [load(kind, name, ROOT) for name in names(kind, ROOT)]
    assert len(found) >= 2
    assert all(list(preset.values) == list(root.values) for preset in found)


def test_recipes_and_corpora_decide_different_parameters() -> None:
    recipe, corpus = (load(kind, kind.root, ROOT).values for kind in (RECIPES, CORPORA))
    assert not set(recipe) & set(corpus)
    assert compose(ROOT).values() | dict(recipe) | dict(corpus) == compose(ROOT).values()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "builds_on: quick\ntrain: {seed: 3}",
            "a recipe does not decide train.seed: only what conf/recipe/quick.yaml has",
        ),
        (
            "builds_on: quick\ntrain: {batch_sise: 3}",
            "train.batch_sise is not a parameter, did you mean train.batch_size?",
        ),
        ("builds_on: quikc", "there is no recipe 'quikc' (named by own), did you mean quick?"),
        ("builds_on: own", "own builds on itself"),
        ("model: {hidden_size: 3}", "expected a line `builds_on: NAME`"),
        ("defaults: [quick, _self_]", "defaults is not a parameter"),
    ],
)
def test_a_mistake_in_a_recipe_is_one_line(tmp_path: Path, content: str, expected: str) -> None:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf/recipe/own.yaml").write_text(content)
    with pytest.raises(ParamsError) as caught:
        load(RECIPES, "own", tmp_path)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_file_is_no_preset(tmp_path: Path) -> None:
    """An editor leaves a link to nowhere as its lock, and a FIFO would be waited for."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf/recipe/.#quick.yaml").symlink_to("user@host.1234")
    (tmp_path / "conf/recipe/gone.yaml").symlink_to("nowhere")
    os.mkfifo(tmp_path / "conf/recipe/pipe.yaml")
    assert names(RECIPES, tmp_path) == names(RECIPES, ROOT)
    assert nearest(RECIPES, compose(ROOT).values(), tmp_path).name == "quick"
