"""Spools that are damaged, that are none, and that several processes send at once."""

import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from charlstm.tracking.outbox import EVENTS, WRITER_LOCK, Spool, last_steps, status_of
from charlstm.tracking.sender import SENT, send_waiting
from outboxes import open_store, points_of, run_of, write
from servers import mlflow_server

from charlstm.tracking.client import Store, create_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("store")
    return Store(f"sqlite:///{root}/mlflow.db", "tests", (root / "artifacts").as_uri())


GARBAGE = [
    b'{"kind":"start","time_ms":1}',
    b'{"kind":"metrics","time_ms":1,"points":[["loss"]]}',
    b'{"kind":"metrics","time_ms":1,"points":[["loss","high",1,1]]}',
    b'{"kind":"tags","time_ms":1,"values":{"a":"\\ud800"}}',
    b'{"kind":"artifacts","time_ms":1,"files":"0000","folder":null}',  # it has no such files
    b'{"kind":"artifacts","time_ms":1,"files":"../../../../etc","folder":null}',
    b'{"kind":"params","time_ms":1,"values":["a"]}',
    b'{"kind":"end","time_ms":"now","status":"FINISHED"}',
    b'{"kind":"end","time_ms":1,"status":"DONE"}',
    b'{"kind":"no kind","time_ms":1}',
    b"[" * 100_000,
    b"null",
    b"\xff\xfe",
    b"\x00" * 4096,
    b" ",
]


def test_damaged_lines_are_counted_and_set_aside_and_the_rest_is_sent(store: Store, tmp_path: Path) -> None:
    spool = write(tmp_path / "damaged-lines", "damaged lines", 3)
    with (spool.folder / EVENTS).open("ab") as events:
        events.write(b"\n".join(GARBAGE) + b"\n")
    spool.append("metrics", points=[["loss", 0.5, 3, 1_700_000_000_003]])
    spool.append("end", status="FINISHED")
    spool.close()
    assert last_steps(spool.folder) == {"loss": 3} and status_of(spool.folder) == "FINISHED"
    whole = (spool.folder / EVENTS).read_bytes()
    (line,) = send_waiting(tmp_path, store)
    assert f"{len(GARBAGE)} damaged lines were not sent; they are kept in {tmp_path / 'damaged'}" in line
    (kept,) = (tmp_path / "damaged").iterdir()
    assert (kept / EVENTS).read_bytes() == whole
    assert points_of(store, "damaged lines") == [0, 1, 2, 3]
    assert run_of(store, "damaged lines").info.status == "FINISHED"
    assert send_waiting(tmp_path, store) == []


@pytest.mark.parametrize("kind", ["garbage", "a folder", "a pipe", "a lock that is a folder"])
def test_what_is_no_spool_stops_no_other(kind: str, store: Store, tmp_path: Path) -> None:
    bad = tmp_path / "a-bad"
    bad.mkdir()
    if kind == "a folder":
        (bad / EVENTS).mkdir()
    elif kind == "a pipe":
        os.mkfifo(bad / EVENTS)
    else:
        (bad / EVENTS).write_bytes(b'{"kind":"tags","time_ms":1,"values":{}}\n\n')
        os.utime(bad / EVENTS, (1, 1))  # the oldest is the first
        if kind == "a lock that is a folder":
            (bad / WRITER_LOCK).mkdir()
    write(tmp_path / "b-good", f"beside {kind}", 2).close()
    send_waiting(tmp_path, store)
    assert points_of(store, f"beside {kind}") == [0, 1]


@pytest.mark.parametrize(
    "noted", ["{}", "[", '{"store":1}', '{"store":"another","offset":3}', "beyond", "within", "negative"]
)
def test_a_note_that_makes_no_sense_is_none(noted: str, store: Store, tmp_path: Path) -> None:
    training = f"noted {noted}"
    write(tmp_path / "noted", training, 4).close()
    offsets = {"beyond": 10**12, "within": 20, "negative": -1}  # after a power failure the note may be newer
    known = {"store": store.identity, "run_id": "0" * 32, "is_new": True}
    text = json.dumps(known | {"offset": offsets[noted]}) if noted in offsets else noted
    (tmp_path / "noted" / SENT).write_text(text)
    assert send_waiting(tmp_path, store) == [""]
    assert points_of(store, training) == [0, 1, 2, 3]


def test_two_at_once_leave_no_spool(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = write(tmp_path / "twice", "twice", 3)
    spool.append("end", status="FINISHED")
    spool.close()
    whole = shutil.rmtree
    with ThreadPoolExecutor(1) as pool:
        others: list[Future[list[str]]] = []

        def comes_in_between(folder: Path, **options: Any) -> None:  # noqa: ANN401
            """A second process comes while the first removes."""
            if not others:
                others.append(pool.submit(send_waiting, tmp_path, store))
            whole(folder, **options)

        monkeypatch.setattr(shutil, "rmtree", comes_in_between)
        assert send_waiting(tmp_path, store) == [""]
        assert others[0].result() == []
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_many_at_once_send_each_spool_once(store: Store, tmp_path: Path) -> None:
    for number in range(6):
        spool = write(tmp_path / f"many-{number}", f"many {number}", 2)
        spool.append("end", status="FINISHED")
        spool.close()
    with ThreadPoolExecutor(4) as pool:
        errors = [error for found in pool.map(lambda _: send_waiting(tmp_path, store), range(4)) for error in found]
    assert errors == [""] * 6
    assert [one for one in tmp_path.iterdir() if one.is_dir()] == []
    assert [points_of(store, f"many {number}") for number in range(6)] == [[0, 1]] * 6


def test_what_a_killed_process_has_half_removed_goes(store: Store, tmp_path: Path) -> None:
    write(tmp_path / ".removed-half-1234", "half", 2).close()
    assert send_waiting(tmp_path, store) == [] and not (tmp_path / ".removed-half-1234").exists()


def test_a_name_that_is_not_utf_8_is_sent_all_the_same(store: Store, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "odd")
    tags = {"corpus": os.fsdecode(b"caf\xe9.txt")}
    spool.append("start", tag="training_id", value="odd", tags=tags, is_open=True)
    spool.close()
    assert send_waiting(tmp_path, store) == [""]
    assert run_of(store, "odd").data.tags["corpus"] == "caf?.txt"


@pytest.mark.slow
def test_two_records_of_one_run_do_not_meet_on_a_server(blank_store: Path, tmp_path: Path) -> None:
    """Evaluate ran twice for one run, and the spools of both are sent at once."""
    backend, folder = f"sqlite:///{shutil.copy(blank_store, tmp_path)}", tmp_path / "spools"
    options = ["--serve-artifacts", "--artifacts-destination", str(tmp_path / "artifacts")]
    with mlflow_server(backend, tmp_path / "server.log", *options) as address:
        store = Store(address, "tests", None)
        create_run(*open_store(store), {"model_sha256": "abc"}, 1)
        for number in range(4):
            spool = Spool(folder / f"evaluate-{number}")
            spool.append("start", tag="model_sha256", value="abc", tags={})
            for name in range(10):
                files = spool.keep_text(f"{name}.json", "x" * (1_000 + number))
                spool.append("artifacts", files=files, folder="lineage/evaluate")
            spool.close()
            os.utime(spool.folder / EVENTS, (1_000_000 + number,) * 2)
        with ThreadPoolExecutor(4) as pool:
            errors = [error for found in pool.map(lambda _: send_waiting(folder, store), range(4)) for error in found]
    assert errors == [""] * 4
    sizes = {file.stat().st_size for file in (tmp_path / "artifacts").rglob("*.json")}
    assert len(sizes) == 1  # all of one record, and not of two
