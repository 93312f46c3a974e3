"""The mirror of checkpoints: whole or absent, the newest wins, and what fails costs warnings."""

import errno
import logging
import os
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest

from charlstm.files.checksums import SUMS, read_sums, write_sums
from charlstm.tracking.client import Store
from charlstm.tracking.outbox import EVENTS, Spool, last_steps
from charlstm.tracking.sender import send_waiting
from charlstm.training.needs import STATE
from pipeline import mirror as process
from pipeline.dvc.unfinished import TRAINING_ID
from pipeline.mirror import COMPLETE, Mirror, fetch, follow
from pipeline.stage import mirroring
from pipeline.stage.settings import MIRROR
from pipeline.stage.terminal import shown_error

RUN, OTHER = "0" * 32, "f" * 32
FINGERPRINT = "0123456789abcdef"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return (tmp_path / "mirror").as_uri()


@pytest.fixture
def mirror(url: str) -> Mirror:
    return Mirror(url, FINGERPRINT)


@pytest.fixture
def mirrored(tmp_path: Path) -> Path:
    return tmp_path / "mirror" / FINGERPRINT


def write_checkpoint(folder: Path, step: int, content: bytes = b"") -> Path:
    path = folder / f"step-{step:09d}"
    path.mkdir(parents=True)
    (path / STATE).write_bytes(content or b"state after %d" % step)
    write_sums(path / SUMS, [STATE])
    return path


def write_spool(folder: Path, num_points: int = 3) -> Path:
    spool = Spool(folder)
    spool.append("start", tag="training_id", value=folder.name, tags={}, is_open=True)
    for step in range(num_points):
        spool.append("metrics", points=[["train/nats_per_char", 1.5, step, 0]])
    spool.append("artifacts", files=spool.keep_text("epoch-001.txt", "KATE:\n"), folder="texts")
    spool.close()
    return folder


def test_another_machine_gets_the_newest_checkpoint_and_its_run(mirror: Mirror, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for step in (10, 20, 30):
        spool = write_spool(here / f"tracking-{step}" / RUN, num_points=step)
        mirror.push(write_checkpoint(here / FINGERPRINT, step), RUN, spool)
    fetch(mirror, there / FINGERPRINT, there / "tracking")
    assert [path.name for path in (there / FINGERPRINT).glob("step-*")] == ["step-000000030"]
    found = there / FINGERPRINT / "step-000000030"
    assert read_sums(found / SUMS) == read_sums(here / FINGERPRINT / "step-000000030" / SUMS)
    assert (found / STATE).read_bytes() == b"state after 30"
    assert (there / FINGERPRINT / TRAINING_ID).read_text() == f"{RUN}\n"
    spool = there / "tracking" / RUN
    assert last_steps(spool) == {"train/nats_per_char": 29}
    assert (spool / "files/0000/epoch-001.txt").read_text() == "KATE:\n"
    assert [path.name for path in (there / "tracking").iterdir()] == [RUN]


def test_two_are_kept(mirror: Mirror, mirrored: Path, tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        mirror.push(write_checkpoint(tmp_path / FINGERPRINT, step), RUN, tmp_path / "no spool")
    assert [copy.checkpoint for copy in mirror.copies()] == ["step-000000040", "step-000000030"]
    assert len(list(mirrored.iterdir())) == 4


def test_a_copy_that_was_not_finished_is_none(mirror: Mirror, mirrored: Path, tmp_path: Path) -> None:
    for step in (10, 20):
        mirror.push(write_checkpoint(tmp_path / FINGERPRINT, step), RUN, tmp_path / "no spool")
    (unfinished,) = mirrored.glob(f"step-000000020*{COMPLETE}")
    unfinished.unlink()
    fetch(mirror, tmp_path / "there" / FINGERPRINT, tmp_path / "tracking")
    assert [path.name for path in (tmp_path / "there" / FINGERPRINT).glob("step-*")] == ["step-000000010"]


@pytest.mark.parametrize("content", [b"", b"state after 2", b"state after 21", None])
def test_a_damaged_copy_is_left_out(
    content: bytes | None, mirror: Mirror, mirrored: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (10, 20):
        mirror.push(write_checkpoint(tmp_path / FINGERPRINT, step), RUN, tmp_path / "no spool")
    (damaged,) = (
        path for path in mirrored.iterdir() if "20" in path.name[:14] and path.suffix not in (COMPLETE, ".jsonl")
    )
    if content is None:
        damaged.unlink()
    else:
        damaged.write_bytes(content)
    there = tmp_path / "there" / FINGERPRINT
    with caplog.at_level(logging.WARNING):
        fetch(mirror, there, tmp_path / "tracking")
    assert [path.name for path in there.iterdir() if path.name.startswith("step-")] == ["step-000000010"]
    assert ("step-000000020 is damaged" in caplog.text) == (content is not None)
    mirror.push(write_checkpoint(there, 15), RUN, tmp_path / "no spool")  # older, and all that there is
    assert mirror.copies()[0].checkpoint == "step-000000015"


def test_what_this_machine_has_is_kept_if_it_is_as_new(mirror: Mirror, tmp_path: Path) -> None:
    mirror.push(write_checkpoint(tmp_path / "a" / FINGERPRINT, 20), OTHER, tmp_path / "no spool")
    here = tmp_path / FINGERPRINT
    write_checkpoint(here, 20, b"of this machine")
    (here / TRAINING_ID).write_text(f"{RUN}\n")
    fetch(mirror, here, tmp_path / "tracking")
    assert (here / "step-000000020" / STATE).read_bytes() == b"of this machine"
    assert (here / TRAINING_ID).read_text() == f"{RUN}\n"


def test_what_cannot_be_read_now_is_not_replaced(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    mirror.push(write_checkpoint(tmp_path / "a" / FINGERPRINT, 20), RUN, tmp_path / "no spool")
    here = tmp_path / FINGERPRINT
    write_checkpoint(here, 30)
    with monkeypatch.context() as patch:
        patch.setattr(process, "sha256", fail)
        fetch(mirror, here, tmp_path / "spools")
    assert [path.name for path in here.iterdir()] == ["step-000000030"]


def test_a_damaged_checkpoint_of_this_machine_is_replaced(mirror: Mirror, tmp_path: Path) -> None:
    own = write_checkpoint(tmp_path / FINGERPRINT, 20)
    mirror.push(own, RUN, tmp_path / "no spool")
    (own / STATE).write_bytes(b"of a broken disk")
    fetch(mirror, tmp_path / FINGERPRINT, tmp_path / "tracking")
    assert (own / STATE).read_bytes() == b"state after 20"


def test_the_newest_of_two_machines_wins_with_its_run(mirror: Mirror, tmp_path: Path) -> None:
    for machine, run_id, step in (("a", RUN, 20), ("b", OTHER, 30), ("a", RUN, 10)):
        spool = write_spool(tmp_path / machine / str(step) / run_id, num_points=step)
        mirror.push(write_checkpoint(tmp_path / machine / FINGERPRINT, step), run_id, spool)
    there = tmp_path / "there"
    fetch(mirror, there / FINGERPRINT, there / "tracking")
    assert (there / FINGERPRINT / TRAINING_ID).read_text() == f"{OTHER}\n"
    assert [path.name for path in (there / "tracking").iterdir()] == [OTHER]


def test_the_run_of_a_machine_that_was_away_is_replaced_by_what_came_after_it(mirror: Mirror, tmp_path: Path) -> None:
    mirror.push(write_checkpoint(tmp_path / "b", 30), RUN, write_spool(tmp_path / "b" / RUN, num_points=30))
    write_spool(tmp_path / "a/tracking" / RUN, num_points=10)
    write_checkpoint(tmp_path / "a" / FINGERPRINT, 10)
    fetch(mirror, tmp_path / "a" / FINGERPRINT, tmp_path / "a/tracking")
    assert last_steps(tmp_path / "a/tracking" / RUN) == {"train/nats_per_char": 29}


def test_a_sender_of_this_machine_does_not_disturb_what_is_fetched(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mirror.push(write_checkpoint(tmp_path / "a", 30), RUN, write_spool(tmp_path / "a" / RUN))
    spools, whole, sent = tmp_path / "tracking", Mirror._get, []  # noqa: SLF001

    def get_while_another_sends(self: Mirror, name: str, file: Path) -> None:
        whole(self, name, file)
        if name.startswith(RUN):
            sent.append(send_waiting(spools, Store("http://127.0.0.1:1", "experiment", None)))

    monkeypatch.setattr(Mirror, "_get", get_while_another_sends)
    fetch(mirror, tmp_path / "there" / FINGERPRINT, spools)
    assert sent == [[]] and "left out" not in caplog.text
    assert [path.name for path in (tmp_path / "there" / FINGERPRINT).glob("step-*")] == ["step-000000030"]
    assert [path.name for path in spools.iterdir()] == [RUN]
    assert last_steps(spools / RUN) == {"train/nats_per_char": 2}


def test_a_name_that_leads_elsewhere_is_left_out(mirror: Mirror, mirrored: Path, tmp_path: Path) -> None:
    mirror.push(write_checkpoint(tmp_path / "a", 30), RUN, write_spool(tmp_path / "a" / RUN))
    for name in ("0001/a/b", "x/b", "writer.lock"):
        (mirrored / RUN / name).parent.mkdir(parents=True, exist_ok=True)
        (mirrored / RUN / name).write_text("strange")
    fetch(mirror, tmp_path / "there" / FINGERPRINT, tmp_path / "tracking")
    found = {str(path.relative_to(tmp_path / "tracking" / RUN)) for path in (tmp_path / "tracking").rglob("*.*")}
    assert found == {EVENTS, "files/0000/epoch-001.txt"}


def test_a_line_that_is_still_written_is_not_copied(mirror: Mirror, mirrored: Path, tmp_path: Path) -> None:
    spool = write_spool(tmp_path / RUN)
    with (spool / EVENTS).open("a") as events:
        events.write('{"kind": "metr')
    mirror.push(write_checkpoint(tmp_path / "a", 30), RUN, spool)
    (copied,) = mirrored.glob(f"*.{EVENTS}")
    assert copied.read_bytes() + b'{"kind": "metr' == (spool / EVENTS).read_bytes()


def test_a_training_that_is_wanted_again_is_not_in_the_mirror_any_more(mirror: Mirror, tmp_path: Path) -> None:
    mirror.push(write_checkpoint(tmp_path / "a", 30), RUN, tmp_path / "no spool")
    mirror.clear()
    assert mirror.copies() == []
    mirror.clear()


def test_a_checkpoint_comes_with_its_run_or_not_at_all(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spools, spool = tmp_path / "spools", write_spool(tmp_path / RUN)
    mirror.push(write_checkpoint(tmp_path / "a" / FINGERPRINT, 10), RUN, spool)
    here, whole = tmp_path / FINGERPRINT, Mirror._get  # noqa: SLF001

    def cut(self: Mirror, name: str, file: Path) -> None:
        if "/" in name:
            raise ConnectionError("reset by peer")
        whole(self, name, file)

    with monkeypatch.context() as patched:
        patched.setattr(Mirror, "_get", cut)
        with pytest.raises(ConnectionError):
            fetch(mirror, here, spools)
    assert not list(here.glob("*")) and not (spools / RUN).exists()
    fetch(mirror, here, spools)
    assert [path.name for path in here.glob("step-*")] == ["step-000000010"]
    assert last_steps(spools / RUN) == {"train/nats_per_char": 2}


def test_bytes_that_move_are_signs_of_life(mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signs: list[None] = []
    monkeypatch.setattr(process, "say_alive", lambda: signs.append(None))
    content = b"x" * (3 * process.PIECE)
    mirror.push(write_checkpoint(tmp_path / "a" / FINGERPRINT, 10, content), RUN, tmp_path / "no spool")
    assert len(signs) >= 3
    signs.clear()
    fetch(mirror, tmp_path / FINGERPRINT, tmp_path / "spools")
    assert len(signs) >= 3
    assert (tmp_path / FINGERPRINT / "step-000000010" / STATE).read_bytes() == content


def test_who_is_interrupted_leaves_no_process_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[psutil.Popen] = []

    def interrupted(process: psutil.Popen, if_not: str) -> None:
        started.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(mirroring, "_finish", interrupted)
    with socket.socket() as server:  # it takes connections, and that is all
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        monkeypatch.setenv(MIRROR, f"http://127.0.0.1:{server.getsockname()[1]}/prefix")
        with pytest.raises(KeyboardInterrupt):
            mirroring.fetch(tmp_path)
    assert started[0].returncode == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_machine_that_is_shut_down_copies_its_last_checkpoint(
    number: signal.Signals, url: str, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes all get a signal, and training takes some seconds to save."""
    monkeypatch.setenv(MIRROR, url)
    folder = tmp_path / FINGERPRINT
    first = write_checkpoint(folder, 10)
    (folder / TRAINING_ID).write_text(f"{RUN}\n")
    with mirroring.followed(folder):
        while not mirror.copies():  # and while it has no command line yet
            time.sleep(0.05)
        (copying,) = (child for child in psutil.Process().children() if "pipeline.mirror" in child.cmdline())
        copying.send_signal(number)
        write_checkpoint(folder, 20)
    assert [copy.checkpoint for copy in mirror.copies()] == ["step-000000020", first.name]


def test_a_process_that_is_killed_has_a_successor(
    url: str, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(MIRROR, url)
    monkeypatch.setattr(mirroring, "SECONDS_BETWEEN_STARTS", 0.0)
    folder = tmp_path / FINGERPRINT
    folder.mkdir()
    (folder / TRAINING_ID).write_text(f"{RUN}\n")

    def kill(follower: mirroring.Follower) -> None:
        assert follower._process is not None
        follower._process.kill()

    deadline = time.monotonic() + 60
    with mirroring.followed(folder) as follower:
        follower.look()
        assert not caplog.records
        kill(follower)
        write_checkpoint(folder, 10)
        while not caplog.records and time.monotonic() < deadline:
            follower.look()
        assert "the mirror's process was killed (signal 9): another one goes on" in caplog.text
    assert [copy.checkpoint for copy in mirror.copies()] == ["step-000000010"]
    with mirroring.followed(folder) as follower:
        kill(follower)
    assert "was killed (signal 9): the last checkpoint is on this machine only" in caplog.text


class Broken(Mirror):
    """Fails a few times."""

    num_failures = 2

    def push(self, checkpoint: Path, training_id: str, spool: Path) -> None:
        if self.num_failures:
            self.num_failures -= 1
            raise RuntimeError("the bucket is full, says user:hunter2hunter2@host")
        super().push(checkpoint, training_id, spool)


def test_a_mirror_that_fails_costs_one_warning_and_is_tried_again(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")
    monkeypatch.setenv(MIRROR, url)
    mirror, folder, looks = Broken(url, FINGERPRINT), tmp_path / FINGERPRINT, iter([False, False, False, True])
    write_checkpoint(folder, 10)
    (folder / TRAINING_ID).write_text(f"{RUN}\n")
    with caplog.at_level(logging.INFO):
        assert follow(lambda: mirror, folder, tmp_path, lambda seconds: next(looks))
    assert [copy.checkpoint for copy in mirror.copies()] == ["step-000000010"]
    assert caplog.text.count("the mirror has no copy of step-000000010") == 1
    assert "the mirror has step-000000010 now" in caplog.text
    assert "hunter2" not in caplog.text


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "s3://alice:hunter2@bucket/prefix"
    monkeypatch.setenv("MY_TOKEN", "abcdefghij")
    said = shown_error(OSError(f"no bucket at {url}?sig=abc for abcdefghij"), url)
    assert "hunter2" not in said and "abcdefghij" not in said and "sig=abc" not in said
    assert "bucket/prefix" in said
