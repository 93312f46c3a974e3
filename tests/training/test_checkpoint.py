"""Checkpoints: two are kept, damage is found, and agreements of processes are rare."""

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from charlstm.files.checksums import SUMS
from charlstm.training.checkpoint import STATE, Checkpoint, CheckpointFolder
from charlstm.training.step_boundary import MAX_STEPS_BETWEEN_AGREEMENTS, steps_until_next


def state(step: int) -> Checkpoint:
    weight = torch.arange(6.0).view(2, 3).t() + step
    return {"weight": weight, "step": torch.tensor(step)}


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    made = CheckpointFolder(tmp_path / "training", 30)
    for step in (10, 20, 1000):
        made.save(step, state(step))
    made.wait()
    return made


def test_what_was_saved_comes_back_and_two_are_kept(folder: CheckpointFolder) -> None:
    found = folder.newest()
    assert found is not None and found["step"].shape == ()
    assert torch.equal(found["weight"], state(1000)["weight"])
    names = sorted(path.name for path in folder.folder.iterdir())
    assert names == ["step-000000020", "step-000001000"]


def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(
    folder: CheckpointFolder, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder.folder / "step-000001000" / STATE
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = folder.newest()
    assert found is not None and found["step"] == 20
    assert f"the checksum of {STATE} does not match {SUMS}" in caplog.text

    (folder.folder / "step-000000020" / SUMS).unlink()
    assert folder.newest() is None


def test_a_checkpoint_that_cannot_be_read_now_stays(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network disk may fail for a moment. A complete checkpoint must not count as damaged."""
    read = Path.open

    def fail(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == STATE:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return read(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        with pytest.raises(OSError, match="Stale file handle"):
            folder.newest()
    found = folder.newest()
    assert found is not None and found["step"] == 1000


def test_what_a_killed_process_left_is_removed(folder: CheckpointFolder) -> None:
    (folder.folder / ".step-000001001.01234567.tmp").mkdir()
    found = folder.newest()
    assert found is not None and found["step"] == 1000
    assert not list(folder.folder.glob(".step-*"))


def test_a_failed_write_is_reported_by_the_next_call(folder: CheckpointFolder) -> None:
    shutil.rmtree(folder.folder)
    folder.folder.write_text("in the way")
    folder.save(3000, state(3000))
    with pytest.raises(OSError, match="training"):
        folder.wait()
    folder.wait()  # the error is reported once


@pytest.mark.parametrize(
    ("seconds_per_step", "num_steps"),
    [(0.25, 4), (0.02, 50), (1e-6, MAX_STEPS_BETWEEN_AGREEMENTS), (0.0, 100), (30, 1)],
)
def test_about_one_agreement_a_second(seconds_per_step: float, num_steps: int) -> None:
    assert steps_until_next(seconds_per_step) == num_steps
