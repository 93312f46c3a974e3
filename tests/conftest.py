"""Fixtures: a text, and whole projects in temporary folders."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from commands import Run
from learning import learn
from stages import SHORT, dvc, run_stages, start_dvc

from benchmarks import projects
from benchmarks.projects import Override, make_project, training_command, write_params
from charlstm.params import Params, load_params

# Under nohup, processes would inherit that SIGHUP is ignored, and tests that send it would wait in vain. A handler is
# not inherited, and keeps these processes as alive as before.
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN or "PYTEST_XDIST_WORKER" in os.environ:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session")
def text() -> str:
    """More than 12,000 characters, some not ASCII."""
    return projects.text()


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory, blank_store: Path) -> Path:
    """A tiny project in which download, split and encode have run. Copy it before changing anything.

    It has an MLflow database without runs already: making one takes as long as the tiniest training.
    """
    folder = tmp_path_factory.mktemp("encoded") / "project"
    make_project(folder)
    shutil.copy(blank_store, folder)
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
def trained_by_two(tmp_path_factory: pytest.TempPathFactory, encoded: Path) -> Path:
    """Trained with the parameters `SHORT` by two processes that nobody disturbs; for slow tests."""
    folder = tmp_path_factory.mktemp("trained-by-two") / "project"
    shutil.copytree(encoded, folder)
    write_params(folder, SHORT)
    assert projects.run(folder, training_command(2), folder / "log") == 0, (folder / "log").read_text()
    return folder


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory, text: str) -> Path:
    """The folder of a model that has learned from `text` for a few seconds; it knows all of its characters."""
    return learn(text, tmp_path_factory.mktemp("learned") / "model")


@pytest.fixture(scope="session")
def blank_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs, to be copied: making one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("blank") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, encoded: Path) -> Path:
    """A project in git and DVC, trained from its first commit, with the results in its second. Copy it before changes.

    It has one run. The branch `results` and the DVC experiment `an-experiment` stand at the second commit.
    """
    folder = tmp_path_factory.mktemp("recorded") / "project"
    shutil.copytree(encoded, folder, ignore=shutil.ignore_patterns("__pycache__"))
    start_dvc(folder)
    dvc(folder, "git", "add", "--", ".", ":(exclude)Datasets")  # DVC's
    dvc(folder, "git", "commit", "-qm", "code")
    run_stages(folder, "train", "evaluate", "sample")
    dvc(folder, "commit", "--force")
    dvc(folder, "git", "add", "-A")
    dvc(folder, "git", "commit", "-qm", "results")
    dvc(folder, "git", "branch", "results")
    baseline = dvc(folder, "git", "rev-parse", "HEAD~1").strip()
    dvc(folder, "git", "update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/an-experiment", "HEAD")
    return folder


@pytest.fixture
def params() -> Callable[[Path, Override], Params]:
    """Loads tiny parameters with overrides."""

    def load(folder: Path, override: Override) -> Params:
        write_params(folder, override)
        return load_params(folder / "params.yaml")

    return load


@pytest.fixture
def run(
    capfdbinary: pytest.CaptureFixture[bytes], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Run:
    return Run(capfdbinary, caplog, monkeypatch)


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No user's environment, no state of Accelerate from the test before, torch as reproducible as a fresh process."""
    of_a_run = ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")
    for name in ("CHARLSTM_MIRROR", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", *of_a_run):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    AcceleratorState._reset_state(reset_partial_state=True)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)
