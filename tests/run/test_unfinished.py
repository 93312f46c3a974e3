"""The state of a training that DVC has not recorded yet, and DVC's record."""

import os
import shutil
from pathlib import Path

import pytest

from charlstm.files.lock import exclusive
from pipeline.run import unfinished
from pipeline.run.dvc import md5
from pipeline.run.unfinished import FINISHED, remove_others, start_or_resume
from tests.support.projects import results, write_params
from tests.support.stages import dvc, run_stages

OTHER = {"train.learning_rate": 0.003}


@pytest.fixture
def project(project: Path) -> Path:
    """Return a project under DVC."""
    dvc(project, "init", "--no-scm", "-q")
    return project


def train(project: Path, capsys: pytest.CaptureFixture[str]) -> bool:
    """Start the stage as DVC does. Return whether it trained.

    A replay only restores the last checkpoint.
    """
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
    """DVC was killed between the outputs and `dvc.lock`."""
    assert train(project, capsys)
    write_params(project, OTHER)
    assert train(project, capsys)
    write_params(project, {})
    assert not train(project, capsys)
    assert not train(project, capsys)
    assert results(project) == results(trained)


def test_a_recorded_training_is_repeated_when_it_is_wanted_again(
    project: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The order is: train A, train B, `dvc repro --force` A. `dvc.lock` records B."""
    assert train(project, capsys)
    dvc(project, "commit", "-f", "train")
    write_params(project, OTHER)
    assert train(project, capsys)
    dvc(project, "commit", "-f", "train")
    write_params(project, {})
    assert train(project, capsys)
    assert results(project) == results(trained)


def state_folder(root: Path, name: str, *, is_finished: bool = False) -> Path:
    folder = root / ".charlstm" / name
    (folder / "step-000000001").mkdir(parents=True)
    if is_finished:
        (folder / FINISHED).write_text(f"{name}\n")
    os.utime(folder, (0, 0))  # the folder's age does not matter
    return folder


def test_temporary_files_of_editors_change_no_hash(copy: Path) -> None:
    """DVC and charlstm ignore the same files, so neither records a file that the other ignores."""
    folder = copy / "charlstm/corpus"
    before = md5(folder)
    for name in (".parts.py.swp", ".#parts.py", "#parts.py#", "parts.py~", "4913", "parts.pyc"):
        (folder / name).write_text("an edit")
    assert md5(folder) == before
    assert "up to date" in dvc(copy, "status")
    (folder / ".hidden").write_text("another file")
    assert md5(folder) != before
    assert "charlstm/corpus" in dvc(copy, "status")


def test_what_is_kept_of_other_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All states that DVC has not recorded are kept. `charlstm doctor --clean` removes them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(unfinished, "cached", lambda md5: tmp_path if md5[0] in "ab" else None)
    recorded, unsent, finished = (
        state_folder(tmp_path, name * 16, is_finished=True) for name in "abc"
    )
    (unsent / "origin.json").write_text("{}")  # its run is not in MLflow yet
    begun, held = (state_folder(tmp_path, name * 16) for name in "69")
    with exclusive(held, "another worker's training"), start_or_resume("mine") as work:
        assert all(one.exists() for one in (finished, unsent, begun, held, work.folder))
        assert not recorded.exists()
        removed = remove_others(tmp_path / ".charlstm", work.folder, is_all=True)
        assert {*removed} == {finished, unsent, begun}
        assert held.exists() and work.folder.exists() and not finished.exists()
