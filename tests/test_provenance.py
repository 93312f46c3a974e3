"""What a run says of its origin."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.projects import write_params
from charlstm.params import load_params
from pipeline.dvc.paths import load_paths
from pipeline.provenance.provenance import tags
from pipeline.stage.tracking_store import MLFLOW_DEFAULTS, store

GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]


@pytest.fixture
def repository(encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in git, with a committed result."""
    folder = tmp_path / "project"
    shutil.copytree(encoded, folder)
    (folder / "artifacts/train").mkdir(parents=True)
    (folder / "artifacts/train/metrics.json").write_text("{}")
    (folder / "dvc.lock").write_text("stages: {}\n")
    known = ["artifacts", "charlstm", "conf", "pipeline", "dvc.lock", "params.yaml"]
    for command in (["init"], ["add", *known], ["commit", "-m", "all"]):
        subprocess.run([*GIT, *command], cwd=folder, check=True, capture_output=True)
    monkeypatch.chdir(folder)
    return folder


def found() -> dict[str, str]:
    return tags(load_params(Path("params.yaml")), load_paths(Path("dvc.yaml")))


def test_results_that_are_away_or_new_leave_a_commit_clean(repository: Path) -> None:
    (repository / "artifacts/train/metrics.json").unlink()  # as DVC does before a stage
    (repository / "dvc.lock").write_text("stages: {download: {}}\n")
    (repository / "distillation").mkdir()
    (repository / "distillation/dvc.lock").write_text("stages: {}\n")  # teachers may have been trained meanwhile
    assert found()["git_dirty"] == "no"


@pytest.mark.parametrize("name", ["params.yaml", "charlstm/model/gates.py"])
def test_changed_parameters_or_code_do_not(repository: Path, name: str) -> None:
    with (repository / name).open("a") as file:
        file.write("# changed\n")
    assert found()["git_dirty"] == "yes"


def test_the_commit_and_the_hashes_are_those_of_the_files(repository: Path) -> None:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert found()["mlflow.source.git.commit"] == commit
    assert len(found()["params_sha256"]) == len(found()["corpus_sha256"]) == 64


def test_the_source_is_named_without_its_password(repository: Path) -> None:
    write_params(repository, {"download.source": "https://host/text.txt?token=hunter2"})
    assert found()["corpus"] == "https://host/text.txt?token=***"
    assert "hunter2" not in str(found())


def test_mlflow_is_kept_from_printing_the_password_of_its_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MLFLOW_DEFAULTS:
        monkeypatch.setenv(name, "")  # so that it is as before after the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    store()
    assert os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] == "true"


def test_a_git_that_fails_does_not_call_the_tree_clean(repository: Path) -> None:
    (repository / ".git/index").write_bytes(b"damaged")
    assert found()["git_dirty"] == "unknown"


def test_outside_a_repository_nothing_is_said(encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(encoded, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    assert {"git_dirty", "mlflow.source.git.commit"} & found().keys() == set()
