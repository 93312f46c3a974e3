"""Fixtures: real text that every checkout has (the project's own source), and whole projects in temporary folders."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from imports import ROOMS, ROOT
from projects import run_stages
from ruamel.yaml import YAML

from charlstm.params import Params, load_params

TINY: dict[str, Any] = {
    "download.source": "text.txt",
    "download.sha256": None,
    "download.fallback": None,
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
NUM_CHARS = 6000


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


def make_project(folder: Path, text: str) -> None:
    """The code, `dvc.yaml`, tiny parameters and a text in a new folder; nothing has run in it."""
    folder.mkdir(parents=True)
    for room in ROOMS:
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", folder)
    write_params(folder, {})
    (folder / "text.txt").write_text(text[:NUM_CHARS], encoding="utf-8")


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory, text: str) -> Path:
    """A tiny project in which download, split and encode have run. Copy it before changing anything."""
    folder = tmp_path_factory.mktemp("encoded") / "project"
    make_project(folder, text)
    run_stages(folder, "download", "split", "encode")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, encoded: Path) -> Path:
    """The same after train, evaluate and sample."""
    folder = tmp_path_factory.mktemp("trained") / "project"
    shutil.copytree(encoded, folder)
    run_stages(folder, "train", "evaluate", "sample")
    return folder


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
