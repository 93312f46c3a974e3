"""What a run says of its origin, in tags and in artifacts of its own; and nothing that is secret."""

import json
import logging
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from stages import dvc

from benchmarks.projects import write_params
from charlstm.params import load_params
from pipeline.doctor.examination import check_folders
from pipeline.dvc.paths import load_paths
from pipeline.provenance import provenance
from pipeline.provenance.hashes import folder_md5
from pipeline.stage.tracking_store import MLFLOW_DEFAULTS, store

GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
NEW = "pipeline/stage/brand_new.py"


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
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert found()["mlflow.source.git.commit"] == commit
    assert len(found()["corpus_sha256"]) == 64


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


def test_a_repository_of_another_user_is_no_missing_one(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a checkout is that a container mounts: git refuses to work there."""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    assert found()["git_dirty"] == "unknown"
    assert "dubious ownership" in [finding.text for finding in check_folders(repository)][0]


def test_outside_a_repository_nothing_is_said(encoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(encoded, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    assert {"git_dirty", "mlflow.source.git.commit"} & found().keys() == set()


# Artifacts.


def artifacts(stage: str) -> dict[str, str]:
    return provenance.lineage_artifacts(stage, load_paths(), found() | provenance.environment())


def test_each_stage_vouches_for_what_it_read_and_wrote(copy: Path) -> None:
    files = {
        stage: json.loads(artifacts(stage)[f"lineage/{stage}/files.json"]) for stage in ("train", "evaluate", "sample")
    }
    folders = {stage: {str(Path(path).parent) for path in found} for stage, found in files.items()}
    assert folders["train"] == {"Datasets", "Datasets/split", "Datasets/encoded", "artifacts/model", "artifacts/train"}
    assert folders["evaluate"] - folders["train"] == {"artifacts/evaluate"}
    assert folders["sample"] - folders["train"] == {"artifacts/samples"}
    assert not [path for found in files.values() for path in found if Path(path).name.startswith(".")]


def test_no_password_gets_into_it(copy: Path) -> None:
    """Nor a file that is no input of the stage: a secret may be in what git tracks and in what it does not know."""
    dvc(copy, "remote", "add", "web", "https://host/")
    dvc(copy, "remote", "modify", "web", "password", "hunter2")
    (copy / "conf").mkdir(exist_ok=True)
    (copy / "conf/my.env").write_text("TOKEN=hunter2\n")
    with (copy / "params.yaml").open("a") as file:
        file.write("# https://host/text.txt?token=hunter2\n")
    with (copy / "dvc.lock").open("a") as file:
        file.write("# https://me:hunter2@host/\n")
    texts = artifacts("train")
    assert set(texts) == {
        f"lineage/train/{name}" for name in ("origin.json", "files.json", "outputs.json", "params.yaml", "dvc.lock")
    }
    assert "hunter2" not in str(texts) and "host/text.txt?token=***" in texts["lineage/train/params.yaml"]
    assert json.loads(texts["lineage/train/origin.json"])["git_dirty"] == "yes"


def test_what_cannot_be_read_costs_a_warning(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    tags, paths = found(), load_paths()
    Path("params.yaml").write_bytes(b"\xff")
    with caplog.at_level(logging.WARNING):
        assert provenance.lineage_of("train", paths, tags) == ({}, {})
    assert "the run has no lineage of stage train: UnicodeDecodeError" in caplog.text


def test_a_folder_has_the_name_that_dvc_gives_it(copy: Path) -> None:
    lock = Path("dvc.lock").read_text()
    paths = load_paths()
    for folder in (paths.split, paths.encoded, paths.model, paths.samples):
        assert folder_md5(folder) in lock


def test_the_experiment_and_its_baseline_are_tags(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "faster")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "c0ffee")
    assert (found()["dvc_exp_name"], found()["dvc_exp_baseline"]) == ("faster", "c0ffee")


def test_a_text_that_stands_in_for_another_is_not_called_by_its_name(repository: Path) -> None:
    sha256 = found()["corpus_sha256"]
    assert found()["corpus_name"] == load_params(Path("params.yaml")).download.name
    same = dict.fromkeys(("requirement_sha256", "sha256", "stands_in_for"), sha256)
    fallback = {"requirement": "package==1", "members": "*.txt", "num_bytes": 9, **same}
    write_params(repository, {"download.fallback": fallback})
    assert found()["corpus_name"] == f"{load_params(Path('params.yaml')).download.name}-fallback"
    assert found()["corpus"] == "FALLBACK package==1"
