"""Fixtures: a text, and whole projects in temporary folders."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from stages import run_stages

from benchmarks import projects
from benchmarks.projects import Override, make_project, write_params
from charlstm.params import Params, load_params


@pytest.fixture(scope="session")
def text() -> str:
    """More than 12,000 characters, some not ASCII."""
    return projects.text()


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project in which download, split and encode have run. Copy it before changing anything."""
    folder = tmp_path_factory.mktemp("encoded") / "project"
    make_project(folder)
    run_stages(folder, "download", "split", "encode")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, encoded: Path) -> Path:
    """The same after train, evaluate and sample."""
    folder = tmp_path_factory.mktemp("trained") / "project"
    shutil.copytree(encoded, folder)
    run_stages(folder, "train", "evaluate", "sample")
    return folder


@pytest.fixture(scope="session")
def blank_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs, to be copied: making one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("blank") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


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
