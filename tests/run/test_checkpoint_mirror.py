"""The checkpoint mirror: complete or absent, the newest wins, and a failure is one warning."""

import logging
import socket
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from charlstm.files.checksums import SUMS, write_sums
from charlstm.training.checkpoint import STATE, read_checkpoint
from pipeline.run.checkpoint_mirror import CheckpointMirror
from pipeline.run.terminal import shown_error
from pipeline.run.unfinished import TRAINING_ID

RUN = "0" * 32
OTHER = "f" * 32
FINGERPRINT = "0123456789abcdef"


class Machine:
    """Simulated machine: its own disk, and a mirror shared with other machines."""

    def __init__(
        self, shared: Path, name: str, training_id: str = RUN, fingerprint: str = FINGERPRINT
    ) -> None:
        self.folder = shared / name / fingerprint
        self.folder.mkdir(parents=True)
        (self.folder / TRAINING_ID).write_text(f"{training_id}\n")
        self.copies = shared / "mirror" / fingerprint
        self.mirror = CheckpointMirror((shared / "mirror").as_uri(), self.folder)

    def save(self, step: int) -> None:
        folder = self.folder / f"step-{step:09d}"
        folder.mkdir()
        (folder / STATE).write_bytes(save({"step": torch.tensor(step)}))
        write_sums(folder / SUMS, [STATE])

    def train(self, *steps: int) -> None:
        for step in steps:
            self.save(step)
            self.mirror.put(self.folder / f"step-{step:09d}")

    def start(self) -> dict[int, int]:
        """Start, and return the checkpoints: the step in the name, and the step in the state."""
        with self.mirror:
            pass
        found = {
            int(path.name[5:]): int(read_checkpoint(path)["step"])
            for path in self.folder.glob("step-*")
        }
        assert not list(self.folder.glob(".*"))
        return found

    @property
    def training_id(self) -> str:
        return (self.folder / TRAINING_ID).read_text().strip()


def test_another_machine_takes_the_newest_of_the_two_that_are_kept(tmp_path: Path) -> None:
    gone = Machine(tmp_path, "gone")
    there = Machine(tmp_path, "there", OTHER)
    Machine(tmp_path, "of another training", fingerprint="f" * 16).train(50)
    gone.train(10, 20, 30, 40)
    steps = [file.name[:14] for file in sorted(gone.copies.iterdir())]
    assert steps == ["step-000000030"] * 2 + ["step-000000040"] * 2
    assert there.start() == {40: 40}
    assert there.training_id == RUN


def test_a_copy_whose_checksums_are_not_there_yet_is_none(tmp_path: Path) -> None:
    gone = Machine(tmp_path, "gone")
    there = Machine(tmp_path, "there")
    gone.train(10, 20)
    (sums,) = gone.copies.glob(f"step-000000020.*.{SUMS}")
    sums.unlink()
    assert there.start() == {10: 10}


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_copy_is_named_and_the_one_before_it_is_taken(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = Machine(tmp_path, "gone")
    there = Machine(tmp_path, "there")
    gone.train(10, 20)
    (state,) = gone.copies.glob(f"step-000000020.*.{STATE}")
    if damage == "changed":
        state.write_bytes(state.read_bytes()[:-1] + b"x")
    else:
        state.unlink()
    assert there.start() == {10: 10}
    assert "cannot read step-000000020 from the mirror; skipped: " in caplog.text


def test_a_training_that_is_repeated_is_removed_from_the_mirror(tmp_path: Path) -> None:
    here = Machine(tmp_path, "here")
    here.train(10, 20)
    with CheckpointMirror(here.mirror.url, tmp_path / "again" / FINGERPRINT, is_repeated=True):
        assert not list(here.copies.iterdir())


def test_a_mirror_that_fails_costs_one_warning_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.run.checkpoint_mirror.SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr("pipeline.run.checkpoint_mirror.SECONDS_AFTER_FAILURE", 0.01)
    here = Machine(tmp_path, "here")
    in_its_place = tmp_path / "mirror"
    in_its_place.write_text("a file")
    with caplog.at_level(logging.WARNING), here.mirror:
        here.save(10)
        time.sleep(1)
        (record,) = caplog.records
        assert record.getMessage().startswith("the checkpoint mirror failed")
        in_its_place.unlink()
    assert len(caplog.records) == 1
    assert Machine(tmp_path, "there").start() == {10: 10}


def test_a_mirror_that_says_nothing_holds_up_neither_start_nor_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHARLSTM_CHECKPOINT_MIRROR_SECONDS", "1")
    here = Machine(tmp_path, "here")
    with socket.socket() as server:  # it accepts connections and never answers
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        silent = CheckpointMirror(f"http://127.0.0.1:{server.getsockname()[1]}/prefix", here.folder)
        started = time.monotonic()
        with caplog.at_level(logging.WARNING), silent:
            here.save(10)
            time.sleep(2)
        assert time.monotonic() - started < 30
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the checkpoint mirror failed",
        "the mirror has no copy of the last checkpoint, step-000000010",
    ]


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "s3://alice:hunter2@bucket/prefix"
    monkeypatch.setenv("MY_TOKEN", "abcdefghij")
    said = shown_error(OSError(f"no bucket at {url}?sig=abc for abcdefghij"), url)
    assert "hunter2" not in said and "abcdefghij" not in said and "sig=abc" not in said
    assert "bucket/prefix" in said
