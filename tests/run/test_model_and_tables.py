"""A model belongs to the tables of its training. Stages refuse it with other tables."""

import shutil
from pathlib import Path

import pytest

from tests.support.commands import only_error
from tests.support.projects import write_params
from tests.support.stages import run_here, run_stages


@pytest.fixture(scope="module")
def half_written(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project in which another training stopped between its model and its tables."""
    root = tmp_path_factory.mktemp("half")
    folder, other = (shutil.copytree(trained, root / name) for name in ("project", "other"))
    for project in (folder, other):
        write_params(project, {"train.learning_rate": 0.003})
    run_stages(other, "train")
    for name in ("artifacts/model", ".charlstm"):
        shutil.copytree(other / name, folder / name, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize("stage", ["evaluate", "sample"])
def test_a_new_model_with_old_tables_is_refused(
    half_written: Path, stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert run_here(half_written, stage) == 2
    message = "model.safetensors is damaged or comes from another run: SHA256SUMS expects SHA-256 "
    assert message in only_error(caplog)


def test_the_same_command_then_writes_both(half_written: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(half_written, project)
    run_stages(project, "train", "evaluate")
