"""What is kept of a training: until DVC has recorded its outcome, and no longer."""

import shutil
from pathlib import Path

import pytest
from stages import run_stages
from test_pipeline import dvc

from benchmarks.projects import results, write_params

OTHER = {"train.learning_rate": 0.003}


@pytest.fixture
def project(encoded: Path, tmp_path: Path) -> Path:
    """Of a tiny training, under DVC."""
    folder = tmp_path / "project"
    shutil.copytree(encoded, folder)
    dvc(folder, "init", "--no-scm", "-q")
    return folder


def train(project: Path, capsys: pytest.CaptureFixture[str]) -> bool:
    """Start the stage as DVC does; whether it took a step. A replay restores the last checkpoint and takes none."""
    for output in ("artifacts/model", "artifacts/train"):
        shutil.rmtree(project / output, ignore_errors=True)
    capsys.readouterr()
    run_stages(project, "train")
    said = capsys.readouterr().err
    assert ("resuming from the checkpoint of step 85 of 85" in said) != ("epoch 1/1 " in said), said
    return "epoch 1/1 " in said


def test_an_outcome_that_dvc_never_recorded_is_not_trained_again(
    project: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a kill between the outputs and `dvc.lock`."""
    assert train(project, capsys)
    write_params(project, OTHER)
    assert train(project, capsys)
    write_params(project, {})
    assert not train(project, capsys)
    assert not train(project, capsys)
    assert results(project) == results(trained)


def test_a_recorded_one_is_trained_again_when_it_is_wanted_again(
    project: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train A, train B, `dvc repro --force` A: `dvc.lock` names B."""
    assert train(project, capsys)
    dvc(project, "commit", "-f", "train")
    write_params(project, OTHER)
    assert train(project, capsys)
    dvc(project, "commit", "-f", "train")
    write_params(project, {})
    assert train(project, capsys)
    assert results(project) == results(trained)


def test_a_record_of_other_parameters_with_the_same_outcome_is_not_one_of_these(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Early stopping that never comes changes no byte of the outputs."""
    assert train(project, capsys)
    dvc(project, "commit", "-f", "train")
    write_params(project, {"train.early_stopping_epochs": 7})
    assert train(project, capsys)
    assert not train(project, capsys)
    dvc(project, "commit", "-f", "train")
    assert train(project, capsys)
