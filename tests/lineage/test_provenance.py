"""What a run says of its origin, in tags and in artifacts of its own; and nothing that is secret."""

import shutil
import subprocess
from pathlib import Path

import pytest

from charlstm.params import load_params
from pipeline.lineage import provenance
from pipeline.run.dvc import load_paths

GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
NEW = "pipeline/run/brand_new.py"


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
    return provenance.tags(load_params(Path("params.yaml")), load_paths())


def test_results_that_are_away_or_new_leave_a_commit_clean(repository: Path) -> None:
    (repository / "artifacts/train/metrics.json").unlink()  # as DVC does before a stage
    (repository / "dvc.lock").write_text("stages: {download: {}}\n")
    assert found()["git_dirty"] == "no"


@pytest.mark.parametrize("name", ["params.yaml", "charlstm/model/gates.py", NEW])
def test_changed_parameters_or_new_code_do_not(repository: Path, name: str) -> None:
    with (repository / name).open("a") as file:
        file.write("# changed\n")
    assert found()["git_dirty"] == "yes"


def test_the_commit_and_the_hashes_are_those_of_the_files(repository: Path) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert found()["mlflow.source.git.commit"] == commit
    assert len(found()["corpus_sha256"]) == 64


def test_a_git_that_fails_does_not_call_the_tree_clean(repository: Path) -> None:
    (repository / ".git/index").write_bytes(b"damaged")
    assert found()["git_dirty"] == "unknown"


def test_outside_a_repository_nothing_is_said(
    encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(encoded, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    assert {"git_dirty", "mlflow.source.git.commit"} & found().keys() == set()


def test_versions_and_hardware_are_tags() -> None:
    known = {
        "versions.torch",
        "versions.python",
        "hardware.processor",
        "hardware.threads",
        "hardware.instructions",
    }
    environment = provenance.environment()
    assert known <= environment.keys() and all(environment.values())


def test_the_experiment_and_its_baseline_are_tags(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "faster")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "c0ffee")
    assert (found()["dvc_exp_name"], found()["dvc_exp_baseline"]) == ("faster", "c0ffee")
