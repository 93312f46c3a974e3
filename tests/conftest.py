"""Fixtures: real text that every checkout has (the project's own source), and whole projects in temporary folders."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from imports import ROOT
from ruamel.yaml import YAML

from charlstm.params import Params, load_params

TINY: dict[str, Any] = {
    "download.source": "text.txt",
    "download.sha256": None,
    "model.embedding_size": 8,
    "model.hidden_size": 16,
    "train.precision": "fp32",
    "train.batch_size": 4,
    "train.context_len": 16,
    "train.epochs": 1,
    "train.warmup_steps": 5,
    "train.validation_context_len": 20,
    "train.log_every_steps": 1,
    "train.text_prompts": ["\n"],
    "train.text_len": 10,
    "evaluate.window_lens": [20],
    "sample.prompts": ["\n", "def "],
    "sample.temperatures": [0.8],
    "sample.seeds": [1],
    "sample.num_chars": 10,
}

Override = dict[str, Any]
MakeProject = Callable[..., Path]


@pytest.fixture(scope="session")
def text() -> str:
    """About 90,000 characters of Python, some not ASCII."""
    return "".join(file.read_text() for file in sorted((ROOT / "charlstm").glob("*.py")))


def write_params(folder: Path, override: Override) -> None:
    """The shipped parameters, made tiny, with `override` by dotted name."""
    yaml = YAML()
    document = yaml.load((ROOT / "params.yaml").read_text())
    for name, value in {**TINY, **override}.items():
        *path, last = name.split(".")
        section = document
        for part in path:
            section = section[part]
        section[last] = value
    with (folder / "params.yaml").open("w") as file:
        yaml.dump(document, file)


@pytest.fixture
def make_project(tmp_path: Path, text: str) -> MakeProject:
    """Makes a folder with the code, `dvc.yaml`, tiny parameters and a text; nothing has run in it."""

    def make(override: Override | None = None, *, num_chars: int = 6000, name: str = "project") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for room in ("charlstm", "pipeline"):
            shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "dvc.yaml", folder)
        write_params(folder, override or {})
        (folder / "text.txt").write_text(text[:num_chars], encoding="utf-8")
        return folder

    return make


@pytest.fixture
def params() -> Callable[[Path, Override], Params]:
    """Loads tiny parameters with overrides."""

    def load(folder: Path, override: Override) -> Params:
        write_params(folder, override)
        return load_params(folder / "params.yaml")

    return load


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No user's environment, no state of Accelerate from the test before, torch as reproducible as a fresh process."""
    for name in ("CHARLSTM_MIRROR", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "DVC_ROOT", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    AcceleratorState._reset_state(reset_partial_state=True)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)
