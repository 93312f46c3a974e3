"""A run's tags and artifacts about its origin, without secrets."""

from pathlib import Path

import pytest

from charlstm.params import load_params
from pipeline.lineage import provenance
from pipeline.run.dvc import load_paths
from tests.support.stages import dvc

NEW = "pipeline/run/brand_new.py"


@pytest.fixture
def repository(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project in git with a committed result. It is the current folder."""
    (project / "artifacts/train").mkdir(parents=True)
    (project / "artifacts/train/metrics.json").write_text("{}")
    (project / "dvc.lock").write_text("stages: {}\n")
    known = ["artifacts", "charlstm", "conf", "pipeline", "dvc.lock", "params.yaml"]
    for command in (["init"], ["add", *known], ["commit", "-m", "all"]):
        dvc(project, "git", *command)
    monkeypatch.chdir(project)
    return project


def found() -> dict[str, str]:
    return provenance.tags(load_params(Path("params.yaml")), load_paths())


def test_results_that_are_away_or_new_leave_a_commit_clean(repository: Path) -> None:
    # DVC removes results before a stage.
    (repository / "artifacts/train/metrics.json").unlink()
    (repository / "dvc.lock").write_text("stages: {download: {}}\n")
    assert found()["git_dirty"] == "no"


@pytest.mark.parametrize("name", ["params.yaml", "charlstm/model/gates.py", NEW])
def test_changed_parameters_or_new_code_do_not(repository: Path, name: str) -> None:
    with (repository / name).open("a") as file:
        file.write("# changed\n")
    assert found()["git_dirty"] == "yes"


def test_the_commit_and_the_hashes_are_those_of_the_files(repository: Path) -> None:
    commit = dvc(repository, "git", "rev-parse", "HEAD").strip()
    assert found()["mlflow.source.git.commit"] == commit
    assert len(found()["corpus_sha256"]) == 64


def test_a_git_that_fails_does_not_call_the_tree_clean(repository: Path) -> None:
    (repository / ".git/index").write_bytes(b"damaged")
    assert found()["git_dirty"] == "unknown"


def test_outside_a_repository_nothing_is_said(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert {"git_dirty", "mlflow.source.git.commit"} & found().keys() == set()


def test_versions_and_hardware_are_tags() -> None:
    environment = provenance.environment()
    assert {"versions.torch", "versions.python"} <= environment.keys()
    assert {f"hardware.{name}" for name in ("processor", "threads")} <= environment.keys()
    assert all(environment.values())


def test_the_experiment_and_its_baseline_are_tags(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "faster")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "c0ffee")
    assert (found()["dvc_exp_name"], found()["dvc_exp_baseline"]) == ("faster", "c0ffee")
