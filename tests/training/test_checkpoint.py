import errno
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from charlstm.errors import CharlstmError
from charlstm.files.checksums import SUMS, write_sums
from charlstm.training.checkpoint import STATE, Checkpoint, CheckpointFolder


def state(step: int) -> Checkpoint:
    return Checkpoint({"weight": torch.arange(6.0).view(2, 3).t() + step, "count": torch.tensor(step)}, {"step": step})


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    """With checkpoints of the steps 10, 20 and 1000."""
    made = CheckpointFolder(tmp_path / "training", 30)
    for step in (10, 20, 1000):
        made.save(step, state(step))
    made.wait()
    return made


def test_what_was_saved_comes_back(folder: CheckpointFolder) -> None:
    found = folder.newest()
    assert found is not None
    assert found.metadata == {"step": 1000}
    assert torch.equal(found.tensors["weight"], state(1000).tensors["weight"])
    assert found.tensors["count"].shape == ()


def test_two_are_kept_and_nothing_else(folder: CheckpointFolder) -> None:
    assert sorted(path.name for path in folder.folder.iterdir()) == ["step-000000020", "step-000001000"]


def test_nothing_saved_is_no_checkpoint(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path / "never", 30).newest() is None


def test_a_damaged_one_is_reported_and_the_one_before_is_used(
    folder: CheckpointFolder, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder.folder / "step-000001000" / STATE
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    found = folder.newest()
    assert found is not None and found.metadata == {"step": 20}
    assert f"{STATE} is not what {SUMS} says" in caplog.text

    (folder.folder / "step-000000020" / SUMS).unlink()
    assert folder.newest() is None
    assert "no whole checkpoint" in caplog.text


@pytest.mark.parametrize(
    "content",
    [b"garbage " * 100, safetensors.torch.save({"weight": torch.zeros(2)}), (2**62).to_bytes(8, "little") + b"{}"],
    ids=["garbage", "no metadata", "a huge header"],
)
def test_whole_bytes_that_are_no_checkpoint_are_put_aside(
    content: bytes, folder: CheckpointFolder, caplog: pytest.LogCaptureFixture
) -> None:
    path = folder.folder / "step-000001000"
    (path / STATE).write_bytes(content)
    write_sums(path / SUMS, [STATE])
    found = folder.newest()
    assert found is not None and found.metadata == {"step": 20}
    assert f"{STATE} is no checkpoint" in caplog.text and not path.exists()


def test_after_that_new_ones_are_kept(folder: CheckpointFolder) -> None:
    for path in folder.folder.iterdir():
        (path / SUMS).write_text("{}")
    assert folder.newest() is None
    for step in (5, 15):
        folder.save(step, state(step))
    folder.wait()
    found = folder.newest()
    assert found is not None and found.metadata == {"step": 15}
    names = sorted(path.name for path in folder.folder.iterdir())
    assert names == ["damaged-step-000000020", "damaged-step-000001000", "step-000000005", "step-000000015"]


@pytest.mark.parametrize("name", [STATE, SUMS])
def test_one_that_cannot_be_read_now_stays(
    folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """As on a network disk that is away for a moment: what is whole must not be taken for damaged."""

    read = Path.open

    def fail(path: Path, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401  # as `open` has them
        if path.name == name:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return read(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        with pytest.raises(
            CharlstmError, match=r"step-000001000 cannot be read \(Stale file handle\), but may be whole"
        ):
            folder.newest()
    found = folder.newest()
    assert found is not None and found.metadata == {"step": 1000}


def test_what_a_killed_process_left_is_removed(folder: CheckpointFolder) -> None:
    (folder.folder / ".step-000001001.01234567.tmp").mkdir()
    found = folder.newest()
    assert found is not None and found.metadata == {"step": 1000}
    assert not list(folder.folder.glob(".step-*"))


def test_a_failed_write_is_reported_by_the_next_call(folder: CheckpointFolder) -> None:
    shutil.rmtree(folder.folder)
    folder.folder.write_text("in the way")
    folder.save(3000, state(3000))
    with pytest.raises(OSError, match="training"):
        folder.wait()
    folder.wait()  # once


def test_it_is_a_plain_safetensors_file(folder: CheckpointFolder) -> None:
    content = (folder.folder / "step-000001000" / STATE).read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert json.loads(header["__metadata__"]["metadata"]) == {"step": 1000}


def test_it_says_whether_one_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    may_end, folder = threading.Event(), CheckpointFolder(tmp_path, 30)
    monkeypatch.setattr(folder, "_write", lambda *_: may_end.wait(60))
    assert not folder.is_writing
    folder.save(1, state(1))
    assert folder.is_writing
    may_end.set()
    folder.wait()
    assert not folder.is_writing
