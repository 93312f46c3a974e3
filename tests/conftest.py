"""Fixtures: a text, and projects in temporary folders."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from filelock import FileLock
from hypothesis import settings

from pipeline.run.settings import MLFLOW_DEFAULTS
from tests.support import projects
from tests.support.commands import Run
from tests.support.learning import learn
from tests.support.projects import make_project
from tests.support.stages import commit_all, commit_of, dvc, run_stages, start_dvc

# A busy machine or disk is not a failure.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Without these defaults, a test that asks a dead server would wait for minutes.
os.environ.update(MLFLOW_DEFAULTS)

# Child processes inherit ignored signals: SIGHUP under nohup, SIGINT in a script's background.
# Tests that send them would wait in vain. A handler is not inherited, and keeps pytest alive.
for number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, lambda *_: None)
if "PYTEST_XDIST_WORKER" in os.environ:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session")
def text() -> str:
    """Return the test text: more than 12,000 characters, some of them not ASCII."""
    return projects.text()


Prepare = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def prepare(tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    """Return a function that builds a folder once for all pytest workers. The others wait."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    root = tmp_path_factory.getbasetemp().parent if is_worker else tmp_path_factory.getbasetemp()

    def prepared(name: str, build: Callable[[Path], object]) -> Path:
        folder = root / name / "project"
        done = root / name / "done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # left by a failed build
                build(folder)
                done.touch()
        return folder

    return prepared


@pytest.fixture(scope="session")
def encoded(prepare: Prepare, blank_store: Path) -> Path:
    """Return a tiny project in which download, split and encode have run. Do not change it.

    Its MLflow database exists, because creating it takes as long as the tiniest training.
    """

    def build(folder: Path) -> None:
        make_project(folder)
        shutil.copy(blank_store, folder)
        run_stages(folder, "check", "download", "split", "encode")

    return prepare("encoded", build)


@pytest.fixture
def project(encoded: Path, tmp_path: Path) -> Path:
    """Return a copy of `encoded` that the test may change."""
    return shutil.copytree(encoded, tmp_path / "project")


@pytest.fixture(scope="session")
def trained(prepare: Prepare, encoded: Path) -> Path:
    """Return a project in which all stages up to sample have run. Do not change it."""

    def build(folder: Path) -> None:
        shutil.copytree(encoded, folder)
        run_stages(folder, "train", "evaluate", "sample")

    return prepare("trained", build)


@pytest.fixture
def trained_project(trained: Path, tmp_path: Path) -> Path:
    """Return a copy of `trained` that the test may change."""
    return shutil.copytree(trained, tmp_path / "project")


@pytest.fixture(scope="session")
def learned(prepare: Prepare, text: str) -> Path:
    """Return the folder of a model that learned all characters of `text` in a few seconds."""
    return prepare("learned", lambda folder: learn(text, folder / "model")) / "model"


@pytest.fixture(scope="session")
def blank_store(prepare: Prepare) -> Path:
    """Return an empty MLflow database to copy. Creating one takes seconds."""

    def build(folder: Path) -> None:
        from mlflow import MlflowClient

        folder.mkdir(parents=True)
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()

    return prepare("blank-store", build) / "mlflow.db"


@pytest.fixture(scope="session")
def recorded(prepare: Prepare, encoded: Path) -> Path:
    """Return a project in git and DVC with one run. Do not change it.

    The first commit has the code. The second has the results, a branch and an experiment.
    """

    def build(folder: Path) -> None:
        shutil.copytree(encoded, folder, ignore=shutil.ignore_patterns("__pycache__"))
        start_dvc(folder)
        # DVC tracks data and results.
        dvc(folder, "git", "add", "--", ".", ":(exclude)Datasets", ":(exclude)artifacts")
        dvc(folder, "git", "commit", "-qm", "code")
        run_stages(folder, "train", "evaluate", "sample")
        dvc(folder, "commit", "--force")
        commit_all(folder, "results")
        dvc(folder, "git", "branch", "results")
        baseline = commit_of(folder, "HEAD~1")
        experiment = f"refs/exps/{baseline[:2]}/{baseline[2:]}/an-experiment"
        dvc(folder, "git", "update-ref", experiment, "HEAD")

    return prepare("recorded", build)


@pytest.fixture
def copy(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of `recorded` that the test may change. It is the current folder."""
    folder = tmp_path / "copy"
    shutil.copytree(recorded, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(
    capfdbinary: pytest.CaptureFixture[bytes],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    return Run(capfdbinary, caplog, monkeypatch)


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Isolate tests from the user's environment and from the state that other tests leave."""
    for name in [*os.environ]:
        if name.startswith(("CHARLSTM_", "DVC_", "MLFLOW_TRACKING_", "MLFLOW_EXPERIMENT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    AcceleratorState._reset_state(reset_partial_state=True)
    if (mlflow := sys.modules.get("mlflow.tracking._tracking_service.utils")) is not None:
        mlflow._artifact_repos_cache.clear()  # its keys are runs' ids, which copies share
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)
