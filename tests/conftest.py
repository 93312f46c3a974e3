"""Fixtures: a text, and whole projects in temporary folders."""

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

from charlstm.params import Params, load_params
from pipeline.run.project import CHECKPOINT_MIRROR, MLFLOW_DEFAULTS
from tests.support import projects
from tests.support.commands import Run
from tests.support.learning import learn
from tests.support.projects import Override, make_project, training_command, write_params
from tests.support.stages import SHORT, dvc, run_stages, start_dvc

# A busy machine or disk is no failure.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

os.environ.update(
    MLFLOW_DEFAULTS
)  # else a test that asks a dead server waits for minutes, if it comes first

# Under nohup, processes would inherit that SIGHUP is ignored, and in the background of a shell's script that SIGINT is:
# tests that send it would wait in vain. A handler is not inherited, and keeps these processes as alive as before.
for number in (signal.SIGHUP, signal.SIGINT):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, lambda *_: None)
if "PYTEST_XDIST_WORKER" in os.environ:
    signal.signal(signal.SIGHUP, lambda *_: None)


@pytest.fixture(scope="session")
def text() -> str:
    """More than 12,000 characters, some not ASCII."""
    return projects.text()


Prepare = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def prepare(tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    """Makes a folder once for all of pytest's workers: the first that asks builds it, the others wait."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    root = tmp_path_factory.getbasetemp().parent if is_worker else tmp_path_factory.getbasetemp()

    def prepared(name: str, build: Callable[[Path], object]) -> Path:
        folder, done = root / name / "project", root / name / "done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a build that failed
                build(folder)
                done.touch()
        return folder

    return prepared


@pytest.fixture(scope="session")
def encoded(prepare: Prepare, blank_store: Path) -> Path:
    """A tiny project in which download, split and encode have run. Copy it before changing anything.

    It has an MLflow database without runs already: making one takes as long as the tiniest training.
    """

    def build(folder: Path) -> None:
        make_project(folder)
        shutil.copy(blank_store, folder)
        run_stages(folder, "check", "download", "split", "encode")

    return prepare("encoded", build)


@pytest.fixture(scope="session")
def trained(prepare: Prepare, encoded: Path) -> Path:
    """The same after train, evaluate and sample."""

    def build(folder: Path) -> None:
        shutil.copytree(encoded, folder)
        run_stages(folder, "train", "evaluate", "sample")

    return prepare("trained", build)


@pytest.fixture(scope="session")
def trained_by_two(prepare: Prepare, encoded: Path) -> Path:
    """Trained with the parameters `SHORT` by two processes that nobody disturbs; for slow tests."""

    def build(folder: Path) -> None:
        shutil.copytree(encoded, folder)
        write_params(folder, SHORT)
        assert projects.run(folder, training_command(2), folder / "log") == 0, (
            folder / "log"
        ).read_text()

    return prepare("trained-by-two", build)


@pytest.fixture(scope="session")
def learned(prepare: Prepare, text: str) -> Path:
    """The folder of a model that has learned from `text` for a few seconds; it knows all of its characters."""
    return prepare("learned", lambda folder: learn(text, folder / "model")) / "model"


@pytest.fixture(scope="session")
def blank_store(prepare: Prepare) -> Path:
    """An MLflow database without runs, to be copied: making one takes seconds."""

    def build(folder: Path) -> None:
        from mlflow import MlflowClient

        folder.mkdir(parents=True)
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()

    return prepare("blank-store", build) / "mlflow.db"


@pytest.fixture(scope="session")
def recorded(prepare: Prepare, encoded: Path) -> Path:
    """A project in git and DVC, trained from its first commit, with the results in its second. Copy it before changes.

    It has one run. The branch `results` and the DVC experiment `an-experiment` stand at the second commit.
    """

    def build(folder: Path) -> None:
        shutil.copytree(encoded, folder, ignore=shutil.ignore_patterns("__pycache__"))
        start_dvc(folder)
        dvc(folder, "git", "add", "--", ".", ":(exclude)Datasets", ":(exclude)artifacts")  # DVC's
        dvc(folder, "git", "commit", "-qm", "code")
        run_stages(folder, "train", "evaluate", "sample")
        dvc(folder, "commit", "--force")
        dvc(folder, "git", "add", "-A")
        dvc(folder, "git", "commit", "-qm", "results")
        dvc(folder, "git", "branch", "results")
        baseline = dvc(folder, "git", "rev-parse", "HEAD~1").strip()
        dvc(
            folder,
            "git",
            "update-ref",
            f"refs/exps/{baseline[:2]}/{baseline[2:]}/an-experiment",
            "HEAD",
        )

    return prepare("recorded", build)


@pytest.fixture
def copy(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`recorded` in another folder, which the test may change, and in which it runs."""
    folder = tmp_path / "copy"
    shutil.copytree(recorded, folder, symlinks=True)
    monkeypatch.chdir(folder)
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
    capfdbinary: pytest.CaptureFixture[bytes],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    return Run(capfdbinary, caplog, monkeypatch)


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No user's environment, no state of Accelerate or MLflow from the test before, torch as in a fresh process."""
    of_a_run = ("DVC_ROOT", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV")
    for name in (
        "CHARLSTM_FALLBACK",
        "CHARLSTM_MIRROR",
        CHECKPOINT_MIRROR,
        "MLFLOW_TRACKING_URI",
        "MLFLOW_EXPERIMENT_NAME",
        *of_a_run,
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    AcceleratorState._reset_state(reset_partial_state=True)
    if (mlflow := sys.modules.get("mlflow.tracking._tracking_service.utils")) is not None:
        mlflow._artifact_repos_cache.clear()  # by a run's id, which copies of a project share
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)
