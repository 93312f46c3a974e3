"""Every recipe is whole and valid, and the committed `params.yaml` is what DVC composes of the default one."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from imports import ROOT
from omegaconf import OmegaConf

from charlstm.params import Params, load_params

RECIPES = sorted(file.stem for file in (ROOT / "conf/recipe").glob("*.yaml"))


def composed(folder: Path, *overrides: str) -> Params:
    """As `dvc exp run` does it."""
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        config = compose("config", list(overrides))
    OmegaConf.resolve(config)
    file = folder / "params.yaml"
    file.write_text(OmegaConf.to_yaml(config))
    return load_params(file)


def test_the_default_is_what_is_committed(tmp_path: Path) -> None:
    assert composed(tmp_path) == load_params(ROOT / "params.yaml")


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_is_valid_and_differs_only_in_model_and_training(tmp_path: Path, name: str) -> None:
    default, recipe = composed(tmp_path), composed(tmp_path, f"recipe={name}")
    assert (recipe == default) == (name == "quick")
    same = {"model": default.model, "train": default.train}
    assert recipe.model_copy(update=same) == default


def test_the_seed_is_the_seed_to_the_letter(tmp_path: Path) -> None:
    flat = composed(tmp_path, "recipe=seed").flat()
    expected = {
        "model.hidden_size": 256,
        "model.num_layers": 2,
        "train.batching": "windows",
        "train.window_stride": 1,
        "train.context_len": 100,
        "train.batch_size": 64,
        "train.optimizer": "adamw",
        "train.weight_decay": 0.0,
        "train.learning_rate": 0.001,
        "train.final_learning_rate_fraction": 1.0,
        "train.dropout.between_layers": 0.1,
        "train.epochs": 5,
    }
    assert {name: flat[name] for name in expected} == expected
