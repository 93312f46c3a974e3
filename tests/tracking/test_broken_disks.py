"""What becomes of a run's record where the disk of its spool is full, or takes nothing."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from charlstm.tracking.outbox import EVENTS, Outbox, status_of
from outboxes import outbox, write

from charlstm.tracking import outbox as outbox_module
from charlstm.tracking.client import Store
from charlstm.tracking.runs import Measurement, Run


def test_an_event_after_one_that_a_full_disk_has_cut_is_whole(tmp_path: Path) -> None:
    spool = write(tmp_path / "full", "full", 2)
    with (spool.folder / EVENTS).open("ab") as events:
        events.write(b'{"kind":"metr')
    spool.append("end", status="FINISHED")
    spool.close()
    assert status_of(spool.folder) == "FINISHED"


def test_a_full_disk_ends_the_tracking_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spools = outbox(tmp_path, Store("sqlite:////nowhere/x.db", "tests", None))
    run = Run(spools, "full", tag="training_id", value="full", tags={})
    shutil.rmtree(tmp_path / "full/files")
    (tmp_path / "full/files").write_text("no folder")
    for _ in range(3):
        run.log_text("a/text.txt", "some text")
        run.log_metrics([Measurement("loss", 1.0)])
    assert caplog.text.count("tracking ends here") == 1


def test_a_disk_that_has_space_again_knows_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run(Outbox(tmp_path, lambda spool: None), "full", tag="training_id", value="full", tags={}, is_open=True)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run.log_metrics([Measurement("loss", 0.5)])
    with monkeypatch.context() as patch:
        patch.setattr(outbox_module, "append_event", refuse)
        run.log_metrics([Measurement("loss", 1.0)])
    run.log_metrics([Measurement("loss", 2.0)])
    run.set_tags({"model_sha256": "ab"})
    run.end("FINISHED")
    run.close()
    assert status_of(tmp_path / "full") == "FINISHED" and caplog.text.count("tracking ends here") == 1
    written = (tmp_path / "full" / EVENTS).read_bytes()
    assert written.count(b"loss") == 1 and b"model_sha256" not in written  # evaluate makes a whole run of the files


def test_nothing_is_written_of_a_run_that_could_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(spool: Path, *_: object, **__: object) -> None:
        (spool / EVENTS).touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for _ in range(2):  # and a second start
        with monkeypatch.context() as patch:
            patch.setattr(outbox_module, "append_event", refuse)
            run = Run(Outbox(tmp_path, lambda spool: None), "full", tag="training_id", value="full", tags={})
        run.end("FINISHED")
        run.close()
        assert (tmp_path / "full" / EVENTS).read_bytes() == b""


def test_a_folder_that_cannot_be_written_ends_the_tracking(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "spools").write_text("no folder")
    spools = outbox(tmp_path / "spools", Store("sqlite:////no/x.db", "tests", None))
    run = Run(spools, "one", tag="training_id", value="one", tags={})
    run.log_metrics([Measurement("loss", 1.0)])
    run.log_text("a/text.txt", "some text")
    run.end("FINISHED")
    run.close()
    assert caplog.text.count("tracking ends here") == 1 == len(caplog.records)
