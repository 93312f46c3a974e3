"""A model and the tables of its training belong together: one is refused with those of another."""

import shutil
from pathlib import Path

import pytest

from tests.support.projects import write_params
from tests.support.stages import run_here, run_stages


@pytest.fixture(scope="module")
def half_written(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project in which another training ended between its model and its tables."""
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
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "model.safetensors: damaged, or of another run: SHA256SUMS expects SHA-256 " in line


def test_the_same_command_then_writes_both(half_written: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(half_written, project)
    run_stages(project, "train", "evaluate")
