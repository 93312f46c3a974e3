"""What the sender makes of dead writers, repeated events, damaged spools and servers that do the wrong thing."""

import contextlib
import json
import logging
import os
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from outboxes import outbox
from servers import mlflow_server

from charlstm.errors import LockedError
from charlstm.tracking.client import Store, create_run, open_store
from charlstm.tracking.delivery import Delivery, is_complete, read_sent
from charlstm.tracking.measurements import Measurement
from charlstm.tracking.runs import Run
from charlstm.tracking.sender import follow, send_waiting
from charlstm.tracking.spool import EVENTS, SENDER_LOCK, SENT, Spool, last_steps, read_lines, status_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("store")
    return Store(f"sqlite:///{root}/mlflow.db", "tests", (root / "artifacts").as_uri())


def run_of(store: Store, training: str) -> Any:  # noqa: ANN401  # MLflow's entities have no annotations
    client, experiment_id = open_store(store)
    (run,) = client.search_runs([experiment_id], f"tags.training_id = '{training}'")
    return run


def points_of(store: Store, training: str, metric: str = "loss") -> list[int]:
    client, _ = open_store(store)
    return sorted(one.step for one in client.get_metric_history(run_of(store, training).info.run_id, metric))


def write(folder: Path, training: str, num_points: int, *, first: int = 0) -> Spool:
    """A training that writes so many points and says nothing of an end."""
    spool = Spool(folder)
    spool.start("training_id", training, {}, is_open=True)
    for step in range(first, first + num_points):
        spool.append("metrics", points=[["loss", 1 / (step + 1), step, 1_700_000_000_000 + step]])
    return spool


def test_a_replay_adds_nothing(store: Store, tmp_path: Path) -> None:
    spool = write(tmp_path / "replay", "replay", 20)
    spool.append("end", status="FINISHED")
    spool.close()
    for _ in range(3):
        Delivery(spool.folder, store).send()
        (spool.folder / SENT).unlink()  # a sender that died before it could note anything
    assert points_of(store, "replay") == list(range(20))
    assert run_of(store, "replay").info.status == "FINISHED"


def test_a_sender_goes_on_where_another_died(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlstm.tracking.delivery.MAX_EVENTS_PER_CALL", 3)
    spool = write(tmp_path / "died", "died", 20)
    spool.close()
    whole = Delivery.note
    num_notes = 0

    def dying(self: Delivery, error: str = "") -> None:
        nonlocal num_notes
        num_notes += 1
        if num_notes % 2 == 0:
            raise KeyboardInterrupt
        whole(self, error)

    monkeypatch.setattr(Delivery, "note", dying)
    num_deaths = 0
    for _ in range(40):
        try:
            Delivery(spool.folder, store).send()
            break
        except KeyboardInterrupt:
            num_deaths += 1
    assert num_deaths > 3
    assert points_of(store, "died") == list(range(20))


def test_a_store_that_lost_the_run_gets_all_of_it_again(tmp_path: Path, blank_store: Path) -> None:
    database = tmp_path / "mlflow.db"
    store = Store(f"sqlite:///{database}", "tests", (tmp_path / "artifacts").as_uri())
    shutil.copy(blank_store, database)
    spool = write(tmp_path / "spools" / "lost", "lost", 5)
    Delivery(spool.folder, store).send()
    shutil.copy(blank_store, database)  # a server that came back without its data
    spool.append("metrics", points=[["loss", 0.1, 5, 1_700_000_000_005]])
    spool.append("end", status="FINISHED")
    spool.close()
    follow(spool.folder, store, lambda seconds: True)
    assert points_of(store, "lost") == list(range(6))
    assert run_of(store, "lost").info.status == "FINISHED"


def test_a_writer_that_dies_leaves_a_run_that_is_killed(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "dead", "dead", 3).close()  # as the system closes the files of a killed process
    (outcome,) = send_waiting(tmp_path, store)
    assert outcome.error == ""
    run = run_of(store, "dead")
    assert run.info.status == "KILLED" and "gone without a word" in run.data.tags["ended"]
    assert (tmp_path / "dead").exists()  # it may be resumed

    spool = write(tmp_path / "dead", "dead", 2, first=3)
    assert follow(spool.folder, store, lambda seconds: len(points_of(store, "dead")) == 5 and close(spool))
    assert run_of(store, "dead").info.status == "KILLED"


def close(spool: Spool) -> bool:
    spool.close()
    return True


def test_a_living_writer_is_left_alone(store: Store, tmp_path: Path) -> None:
    spool = write(tmp_path / "alive", "alive", 3)
    assert send_waiting(tmp_path, store) == []
    with pytest.raises(LockedError, match="another process is writing to this spool"):
        Spool(tmp_path / "alive")
    spool.close()


def test_a_line_that_was_cut_off_is_written_anew(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "cut", "cut", 3).close()
    events = tmp_path / "cut" / EVENTS
    events.write_bytes(events.read_bytes()[:-10] + b"\n\x00\x00\x00 no event\n" + b'{"kind":"metr')
    assert [line.event["kind"] for line in read_lines(events)] == ["start", "metrics", "metrics", *2 * ["damaged"]]
    spool = write(tmp_path / "cut", "cut", 1, first=2)
    spool.append("end", status="FINISHED")
    spool.close()
    assert status_of(tmp_path / "cut") == "FINISHED"
    assert send_waiting(tmp_path, store)[0][1:] == ("", 2)
    assert points_of(store, "cut") == [0, 1, 2]


def test_a_full_disk_ends_the_tracking_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = write(tmp_path / "full", "full", 3)
    shutil.rmtree(spool.folder / "files")
    (spool.folder / "files").write_text("no folder")
    run = Run(spool, outbox(tmp_path, Store("sqlite:////nowhere/x.db", "tests", None)).start_sender)
    for _ in range(3):
        run.log_text("a/text.txt", "some text")
        run.log_metrics([Measurement("loss", 1.0)])
    assert caplog.text.count("tracking ends here") == 1
    spool.close()


def test_a_folder_that_cannot_be_written_ends_the_tracking(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "spools").write_text("no folder")
    run = Run(Spool(tmp_path / "spools/one"), outbox(tmp_path, Store("sqlite:////no/x.db", "tests", None)).start_sender)
    run.log_metrics([Measurement("loss", 1.0)])
    run.log_text("a/text.txt", "some text")
    run.close("FINISHED")
    assert caplog.text.count("tracking ends here") == 1 == len(caplog.records)


def test_async_logging_loses_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    spool = write(tmp_path / "async", "async", 50)
    spool.close()
    Delivery(spool.folder, store).send()
    assert points_of(store, "async") == list(range(50))


class Wrong(BaseHTTPRequestHandler):
    """A server that is none of MLflow's."""

    mode = "html"

    def do_GET(self) -> None:
        if self.mode == "hang":
            time.sleep(5)
        body = b"<html>welcome to the hotel network</html>"
        self.send_response(500 if self.mode == "500" else 200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # a client that waits no longer
            self.wfile.write(body)

    do_POST = do_PUT = do_PATCH = do_GET

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def wrong() -> Iterator[Callable[[str], str]]:
    """Starts such a server; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Wrong)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def start(mode: str) -> str:
        Wrong.mode = mode
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("mode", ["html", "500", "hang", "nobody"])
def test_a_wrong_server_costs_one_warning_and_the_rest_comes_later(
    mode: str,
    wrong: Callable[[str], str],
    store: Store,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr("charlstm.tracking.sender.SECONDS_BETWEEN_LAST_TRIES", 0.0)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}" if mode == "nobody" else wrong(mode)
        server = Store(address, "tests", None)
        spool = write(tmp_path / mode, f"wrong-{mode}", 5)
        spool.append("end", status="FINISHED")
        spool.close()
        with caplog.at_level(logging.WARNING):
            assert not follow(spool.folder, server, lambda seconds: True)
    assert caplog.text.count("nothing is lost: what is missing is sent later") == 1 == len(caplog.records)
    sent = read_sent(spool.folder)
    assert sent is not None and address in sent.error and not is_complete(spool.folder, server)
    assert [one.error for one in send_waiting(tmp_path, store)] == [""]  # another store, or the same when it is back
    assert points_of(store, f"wrong-{mode}") == list(range(5))
    assert not spool.folder.exists()


def test_a_checkout_that_moved_writes_to_its_own_artifacts(tmp_path: Path) -> None:
    former, copy = tmp_path / "former", tmp_path / "copy"
    former.mkdir()

    def track(root: Path, name: str) -> Run:
        store = Store(f"sqlite:///{root}/mlflow.db", "tests", (root / "mlartifacts").as_uri())
        spool = Spool(root / "spools" / name)
        spool.start("training_id", name, {}, is_open=True)
        run = Run(spool, outbox(root / "spools", store).start_sender)
        run.log_text("texts/one.txt", name)
        run.close("FINISHED")
        return run

    track(former, "first")
    shutil.copytree(former, copy)
    track(copy, "second")
    assert len(list(former.rglob("one.txt"))) == 1
    assert sorted(file.read_text() for file in copy.rglob("one.txt")) == ["first", "second"]
    with closing(sqlite3.connect(copy / "mlflow.db")) as database:
        places = [row[0] for row in database.execute("select artifact_uri from runs")]
    assert len(places) == 2 and all(place.startswith((copy / "mlartifacts").as_uri()) for place in places)


GARBAGE = [
    b'{"kind":"start","time_ms":1}',
    b'{"kind":"metrics","time_ms":1}',
    b'{"kind":"metrics","time_ms":1,"points":[["loss"]]}',
    b'{"kind":"metrics","time_ms":1,"points":[["loss",1.0,%d,1]]}' % 10**40,
    b'{"kind":"metrics","time_ms":1,"points":[["loss","high",1,1]]}',
    b'{"kind":"tags","time_ms":1,"values":{"a":1}}',
    b'{"kind":"tags","time_ms":1,"values":{"a":"\\ud800"}}',
    b'{"kind":"params","time_ms":1,"values":["a"]}',
    b'{"kind":"artifacts","time_ms":1,"files":"0000","folder":null}',  # it has no such files
    b'{"kind":"artifacts","time_ms":1,"files":"../../../../etc","folder":null}',
    b'{"kind":"model","time_ms":1,"files":"0000"}',
    b'{"kind":"corpus","time_ms":1}',
    b'{"kind":"end","time_ms":%d,"status":"FINISHED"}' % 10**30,
    b'{"kind":"end","time_ms":1,"status":"DONE"}',
    b'{"kind":"no kind","time_ms":1}',
    b'{"kind":"end","time_ms":"now","status":"FINISHED"}',
    b"[" * 100_000,
    b"[]",
    b"null",
    b"\xff\xfe",
    b"",
]


def test_damaged_lines_are_counted_and_set_aside_and_the_rest_is_sent(store: Store, tmp_path: Path) -> None:
    spool = write(tmp_path / "damaged-lines", "damaged lines", 3)
    for line in GARBAGE:
        os.write(spool._events, line + b"\n")  # noqa: SLF001  # as a disk, or another version, leaves them
    spool.append("metrics", points=[["loss", 0.5, 3, 1_700_000_000_003]])
    spool.append("end", status="FINISHED")
    spool.close()
    assert last_steps(spool.folder) == {"loss": 3} and status_of(spool.folder) == "FINISHED"
    whole = (spool.folder / EVENTS).read_bytes()
    (outcome,) = send_waiting(tmp_path, store)
    assert outcome.error == "" and outcome.num_damaged == len(GARBAGE)
    assert points_of(store, "damaged lines") == [0, 1, 2, 3]
    assert run_of(store, "damaged lines").info.status == "FINISHED"
    assert outcome.folder.parent == tmp_path / "damaged" and (outcome.folder / EVENTS).read_bytes() == whole
    assert send_waiting(tmp_path, store) == []


@pytest.mark.parametrize("line", GARBAGE)
def test_a_spool_of_garbage_is_not_sent_and_stops_no_other(line: bytes, store: Store, tmp_path: Path) -> None:
    (tmp_path / "a-bad").mkdir()
    (tmp_path / "a-bad" / EVENTS).write_bytes(line + b"\n" + b'{"kind":"tags","time_ms":1,"values":{}}\n')
    os.utime(tmp_path / "a-bad" / EVENTS, (1, 1))  # the oldest is the first
    write(tmp_path / "b-good", f"good {GARBAGE.index(line)}", 2).close()
    bad, good = send_waiting(tmp_path, store)
    assert bad.num_damaged == 2 and bad.folder.parent == tmp_path / "damaged"
    assert good == (tmp_path / "b-good", "", 0)
    assert points_of(store, f"good {GARBAGE.index(line)}") == [0, 1]


@pytest.mark.parametrize(
    "kind", ["a folder", "a pipe", "a link", "a file", "a lock that is a folder", "a lock that leads away"]
)
def test_what_is_no_spool_stops_no_other(kind: str, store: Store, tmp_path: Path) -> None:
    bad = tmp_path / "a-bad"
    if kind == "a file":
        bad.touch()
    else:
        bad.mkdir()
    if kind == "a folder":
        (bad / EVENTS).mkdir()
    elif kind == "a pipe":
        os.mkfifo(bad / EVENTS)
    elif kind == "a link":
        (bad / EVENTS).symlink_to("/dev/zero")
    elif kind.startswith("a lock"):
        (bad / EVENTS).write_bytes(b'{"kind":"tags","time_ms":1,"values":{}}\n')
        (bad / SENDER_LOCK).symlink_to("nowhere") if "away" in kind else (bad / SENDER_LOCK).mkdir()
    write(tmp_path / "b-good", f"beside {kind}", 2).close()
    outcomes = send_waiting(tmp_path, store)
    assert (tmp_path / "b-good", "", 0) in outcomes and points_of(store, f"beside {kind}") == [0, 1]
    assert [bool(one.error) for one in outcomes if one.folder == bad] == [True] * kind.startswith("a lock")


@pytest.mark.parametrize("noted", ["{}", "[", '{"store":1}', "beyond", "within", "negative"])
def test_a_note_that_makes_no_sense_is_none(noted: str, store: Store, tmp_path: Path) -> None:
    training = f"noted {noted}"
    write(tmp_path / "noted", training, 4).close()
    known = {"store": str(store), "run_id": "0" * 32, "is_new": True, "system": 0, "error": ""}
    offsets = {"beyond": 10**12, "within": 20, "negative": -1}
    text = json.dumps(known | {"events": offsets[noted]}) if noted in offsets else noted
    (tmp_path / "noted" / SENT).write_text(text)
    assert send_waiting(tmp_path, store) == [(tmp_path / "noted", "", 0)]
    assert points_of(store, training) == [0, 1, 2, 3]


def test_a_spool_in_which_nothing_was_written_goes_without_a_word(store: Store, tmp_path: Path) -> None:
    Spool(tmp_path / "empty").close()
    assert send_waiting(tmp_path, store) == [] and list(tmp_path.iterdir()) == []


def test_two_at_once_leave_no_spool(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = write(tmp_path / "twice", "twice", 3)
    spool.append("end", status="FINISHED")
    spool.close()
    whole, seen = shutil.rmtree, []

    def removes_in_two_steps(folder: Path, **options: Any) -> None:  # noqa: ANN401
        """A second process comes while the lock is removed already, and the folder not."""
        (folder / SENDER_LOCK).unlink(missing_ok=True)
        monkeypatch.setattr(shutil, "rmtree", whole)
        seen.append(send_waiting(tmp_path, store))
        whole(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", removes_in_two_steps)
    assert [one.error for one in send_waiting(tmp_path, store)] == [""]
    assert seen == [[]] and [one.name for one in tmp_path.iterdir() if one.is_dir()] == []


def test_many_at_once_send_each_spool_once(store: Store, tmp_path: Path) -> None:
    for number in range(6):
        spool = write(tmp_path / f"many-{number}", f"many {number}", 2)
        spool.append("end", status="FINISHED")
        spool.close()
    with ThreadPoolExecutor(4) as pool:
        outcomes = [one for found in pool.map(lambda _: send_waiting(tmp_path, store), range(4)) for one in found]
    assert sorted(one.folder.name for one in outcomes) == [f"many-{number}" for number in range(6)]
    assert [one for one in tmp_path.iterdir() if one.is_dir()] == []
    assert [points_of(store, f"many {number}") for number in range(6)] == [[0, 1]] * 6


def test_what_a_killed_process_has_half_removed_goes(store: Store, tmp_path: Path) -> None:
    write(tmp_path / ".removed-half-1234", "half", 2).close()
    assert send_waiting(tmp_path, store) == [] and not (tmp_path / ".removed-half-1234").exists()


def test_a_name_that_is_not_utf_8_is_sent_all_the_same(store: Store, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "odd")
    spool.start("training_id", "odd", {"corpus": os.fsdecode(b"caf\xe9.txt")}, is_open=True)
    spool.close()
    assert [one.num_damaged for one in send_waiting(tmp_path, store)] == [0]
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
            spool.start("model_sha256", "abc", {})
            for name in range(10):
                files = spool.keep_text(f"{name}.json", "x" * (1_000 + number))
                spool.append("artifacts", files=files, folder="lineage/evaluate")
            spool.close()
            os.utime(spool.folder / EVENTS, (1_000_000 + number,) * 2)
        with ThreadPoolExecutor(4) as pool:
            outcomes = [one for found in pool.map(lambda _: send_waiting(folder, store), range(4)) for one in found]
    assert [one.error for one in outcomes] == [""] * 4
    sizes = {file.stat().st_size for file in (tmp_path / "artifacts").rglob("*.json")}
    assert len(sizes) == 1  # all of one record, and not of two
