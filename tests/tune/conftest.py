"""A project in which a search can begin."""

import shutil
from pathlib import Path

import pytest

from benchmarks.projects import ROOT

SPACE = "train.learning_rate: {low: 0.001, high: 0.1, log: true}\ntrain.weight_decay: [0.0, 0.1]\n"


@pytest.fixture
def project(encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With recipes and a space."""
    folder = tmp_path / "project"
    shutil.copytree(encoded, folder)
    (folder / "conf/recipe").mkdir()
    shutil.copy(ROOT / "conf/recipe/quick.yaml", folder / "conf/recipe")
    (folder / "conf/tune.yaml").write_text(SPACE)
    monkeypatch.chdir(folder)
    return folder
