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
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from charlstm.tracking.outbox import EVENTS, WRITER_LOCK, Outbox, Spool, read_events, status_of
from charlstm.tracking.sender import SENT, TURN, SpoolSender, follow, read_sent, send_waiting
from filelock import FileLock
from outboxes import open_store, outbox, points_of, run_of, write

from charlstm.errors import LockedError
from charlstm.tracking import client as calls
from charlstm.tracking.client import Store
from charlstm.tracking.reader import Reader
from charlstm.tracking.runs import Measurement, Run, TrainingRecord, attach
from charlstm.training.history import EpochRow, StepRow, Tables, table


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("store")
    return Store(f"sqlite:///{root}/mlflow.db", "tests", (root / "artifacts").as_uri())


def test_a_replay_adds_nothing(store: Store, tmp_path: Path) -> None:
    spool = write(tmp_path / "replay", "replay", 20)
    spool.append("end", status="FINISHED")
    spool.close()
    for _ in range(3):
        assert SpoolSender(spool.folder, store).send() == ""
        (spool.folder / SENT).unlink()  # a sender that died before it could note anything
    assert points_of(store, "replay") == list(range(20))
    assert run_of(store, "replay").info.status == "FINISHED"


def test_a_sender_goes_on_where_another_died(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlstm.tracking.sender.MAX_EVENTS_PER_CALL", 3)
    spool = write(tmp_path / "died", "died", 20)
    spool.close()
    whole = SpoolSender._note  # noqa: SLF001
    num_notes = 0

    def dying(self: SpoolSender, error: str = "") -> None:
        nonlocal num_notes
        num_notes += 1
        if num_notes % 2 == 0:
            raise KeyboardInterrupt
        whole(self, error)

    monkeypatch.setattr(SpoolSender, "_note", dying)
    num_deaths = 0
    for _ in range(40):
        try:
            SpoolSender(spool.folder, store).send()
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
    SpoolSender(spool.folder, store).send()
    shutil.copy(blank_store, database)  # a server that came back without its data
    spool.append("metrics", points=[["loss", 0.1, 5, 1_700_000_000_005]])
    spool.append("end", status="FINISHED")
    spool.close()
    assert follow(spool.folder, store, lambda seconds: True)
    assert points_of(store, "lost") == list(range(6))
    assert run_of(store, "lost").info.status == "FINISHED"


def test_a_writer_that_dies_leaves_a_run_that_is_killed(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "dead", "dead", 3).close()  # as the system closes the files of a killed process
    assert send_waiting(tmp_path, store) == [""]
    run = run_of(store, "dead")
    assert run.info.status == "KILLED" and "gone without a word" in run.data.tags["ended"]
    assert (tmp_path / "dead").exists()  # it may be resumed
    assert send_waiting(tmp_path, store) == []  # all of it was sent

    spool = write(tmp_path / "dead", "dead", 2, first=3)
    assert follow(spool.folder, store, lambda seconds: len(points_of(store, "dead")) == 5 and close(spool))
    assert run_of(store, "dead").info.status == "KILLED"


def test_a_machine_that_comes_back_adds_nothing_to_what_another_has_finished(store: Store, tmp_path: Path) -> None:
    gone = write(tmp_path / "gone" / "back", "back", 8)
    assert SpoolSender(gone.folder, store).send() == ""
    other = write(tmp_path / "other" / "back", "back", 5)  # what the mirror had of its run
    start = {"tag": "training_id", "value": "back", "tags": {}, "is_open": True}
    other.append("start", **start)
    assert SpoolSender(other.folder, store).send() == ""  # and this sender dies
    for step in range(5, 13):  # some of them taken again, at another time
        other.append("metrics", points=[["loss", 1 / (step + 1), step, 1_700_000_050_000 + step]])
    other.append("end", status="FINISHED", reason="normally")
    other.close()
    assert SpoolSender(other.folder, store).finish() == ""
    gone.append("metrics", points=[["loss", 1 / (step + 1), step, 1_700_000_000_000 + step] for step in range(8, 11)])
    gone.close()
    assert send_waiting(gone.folder.parent, store) == [""]
    assert points_of(store, "back") == list(range(13))
    run = run_of(store, "back")
    assert (run.info.status, run.data.tags["ended"]) == ("FINISHED", "normally")


def test_a_store_that_loses_a_resumed_run_gets_all_of_it_again(tmp_path: Path, blank_store: Path) -> None:
    database = tmp_path / "mlflow.db"
    store = Store(f"sqlite:///{database}", "tests", (tmp_path / "artifacts").as_uri())
    shutil.copy(blank_store, database)
    spool = write(tmp_path / "spools" / "lost", "lost", 5)
    assert SpoolSender(spool.folder, store).send() == ""
    spool.append("start", tag="training_id", value="lost", tags={}, is_open=True)
    sender = SpoolSender(spool.folder, store)
    assert sender.send() == ""
    spool.append("metrics", points=[["loss", 0.1, 5, 1_700_000_000_005]])
    assert sender.send() == ""
    shutil.copy(blank_store, database)
    spool.append("metrics", points=[["loss", 0.1, 6, 1_700_000_000_006]])
    while error := sender.send():
        assert "not found" in error
    assert points_of(store, "lost") == list(range(7))
    spool.close()


def close(spool: Spool) -> bool:
    spool.close()
    return True


def test_a_living_writer_is_left_alone(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charlstm.tracking.outbox.SECONDS_FOR_A_LOOK", 0.0)
    spool = write(tmp_path / "alive", "alive", 3)
    with FileLock(tmp_path / TURN):  # also while its own sender is at work
        assert send_waiting(tmp_path, store) == []
    with pytest.raises(LockedError, match="another process is writing to this spool"):
        Spool(tmp_path / "alive")
    spool.close()


def test_a_writer_waits_for_a_sender_that_only_looks(tmp_path: Path) -> None:
    """It looks whether the writer is gone. No training may end of that."""
    write(tmp_path / "looked-at", "looked-at", 3).close()
    lock = FileLock(tmp_path / "looked-at" / WRITER_LOCK, thread_local=False)
    lock.acquire()
    threading.Timer(0.5, lambda: lock.release(force=True)).start()
    Spool(tmp_path / "looked-at").close()


def test_a_line_that_was_cut_off_is_written_anew(store: Store, tmp_path: Path) -> None:
    write(tmp_path / "cut", "cut", 3).close()
    events = tmp_path / "cut" / EVENTS
    events.write_bytes(events.read_bytes()[:-10] + b"\n\x00\x00\x00 no event\n" + b'{"kind":"metr')
    kinds = [event and event.kind for event, _ in read_events(tmp_path / "cut")]
    assert kinds == ["start", "metrics", "metrics", None, None]
    spool = write(tmp_path / "cut", "cut", 1, first=2)
    spool.append("end", status="FINISHED")
    spool.close()
    assert status_of(tmp_path / "cut") == "FINISHED"
    (line,) = send_waiting(tmp_path, store)
    assert line.startswith("2 damaged lines were not sent")
    assert points_of(store, "cut") == [0, 1, 2]


def test_async_logging_loses_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    spool = write(tmp_path / "async", "async", 50)
    spool.close()
    SpoolSender(spool.folder, store).send()
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
    assert sent is not None and address in sent.error
    assert send_waiting(tmp_path, store) == [""]  # another store, or the same when it is back
    assert points_of(store, f"wrong-{mode}") == list(range(5))
    assert not spool.folder.exists()


def test_a_checkout_that_moved_writes_to_its_own_artifacts(tmp_path: Path) -> None:
    former, copy = tmp_path / "former", tmp_path / "copy"
    former.mkdir()

    def track(root: Path, name: str) -> None:
        store = Store(f"sqlite:///{root}/mlflow.db", "tests", (root / "mlartifacts").as_uri())
        run = Run(outbox(root / "spools", store), name, tag="training_id", value=name, tags={}, is_open=True)
        run.log_text("texts/one.txt", name)
        run.end("FINISHED")
        run.close()

    track(former, "first")
    shutil.copytree(former, copy)
    track(copy, "second")
    assert len(list(former.rglob("one.txt"))) == 1
    assert sorted(file.read_text() for file in copy.rglob("one.txt")) == ["first", "second"]
    with closing(sqlite3.connect(copy / "mlflow.db")) as database:
        places = [row[0] for row in database.execute("select artifact_uri from runs")]
    assert len(places) == 2 and all(place.startswith((copy / "mlartifacts").as_uri()) for place in places)


def test_a_run_is_whole_where_the_answer_to_its_making_was_lost(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a server answers too late, or the sender dies before it can note the answer."""
    made, num_lost = calls.create_run, 0

    def create(*arguments: Any) -> str:  # noqa: ANN401  # those of the function
        nonlocal num_lost
        run_id, num_lost = made(*arguments), num_lost + 1
        if num_lost == 1:
            raise TimeoutError("no answer")
        return run_id

    monkeypatch.setattr(calls, "create_run", create)
    tables = Tables(table([], EpochRow._fields), table([StepRow(1, 1, 2.0, 0.1, 0.5)], StepRow._fields))
    run = attach(outbox(tmp_path, store), "ab" * 32, TrainingRecord({"train.seed": 1}, {}, tables, 0))
    run.log_metrics([Measurement("stateful/nats_per_char", 1.5)])
    run.close()
    send_waiting(tmp_path, store)
    assert num_lost == 1
    (found,) = Reader(store).by_tag("model_sha256", "ab" * 32)
    assert (found.status, found.params) == ("FINISHED", {"train.seed": "1"})
    assert {"stateful/nats_per_char", "train/nats_per_char"} <= found.metrics.keys()


def of_node(folder: Path, training: str, start_ms: int) -> Spool:
    """What another machine of a training writes: metrics for the run that the first one makes."""
    spool = Spool(folder)
    start = {"tag": "training_id", "value": training, "tags": {}, "is_found_only": True, "time_ms": start_ms}
    (folder / EVENTS).write_text(json.dumps({"kind": "start", **start}) + "\n")
    spool.append("metrics", points=[["system/node-1/cpu", 0.5, 1, start_ms + 1]])
    spool.append("end", status="FINISHED")
    return spool


def test_what_another_node_measured_is_sent_after_the_end_of_the_run(store: Store, tmp_path: Path) -> None:
    node = of_node(tmp_path / "nodes" / "node", "ended", 1_700_000_000_000)
    node.close()
    assert "no running run has the tag" in send_waiting(tmp_path / "nodes", store)[0]  # the training was not sent yet
    training = write(tmp_path / "first" / "ended", "ended", 3)
    training.append("end", status="FINISHED")
    training.close()
    assert send_waiting(tmp_path / "first", store) == [""] == send_waiting(tmp_path / "nodes", store)
    assert points_of(store, "ended", "system/node-1/cpu") == [1] and not node.folder.exists()


def test_what_another_node_measured_of_no_run_goes_at_last(store: Store, tmp_path: Path) -> None:
    node = of_node(tmp_path / "node", "never", 1_700_000_000_000)
    node.close()
    assert send_waiting(tmp_path, store) != [""] and node.folder.exists()
    for file in node.folder.iterdir():
        os.utime(file, (0, 0))
    assert send_waiting(tmp_path, store) == [""] and not node.folder.exists()


def test_a_model_whose_training_waits_to_be_sent_gets_no_second_run(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tables = "cd" * 32, Tables(table([], EpochRow._fields), table([], StepRow._fields))
    waiting = Outbox(tmp_path, lambda spool: None)
    training = Run(waiting, "trained", tag="training_id", value="trained", tags={}, is_open=True)
    training.log_metrics([Measurement("loss", 1.0)])
    training.set_tags({"model_sha256": model})
    training.end("FINISHED")
    training.close()
    evaluated = attach(waiting, model, TrainingRecord({}, {}, tables, 0))
    evaluated.log_metrics([Measurement("stateful/nats_per_char", 1.5)])
    evaluated.close()
    log_points, num_calls = calls.log_points, 0

    def refused_once(*arguments: Any, **options: Any) -> None:  # noqa: ANN401  # those of the function
        nonlocal num_calls
        num_calls += 1
        if num_calls == 1:
            raise TimeoutError("no answer")
        log_points(*arguments, **options)

    monkeypatch.setattr(calls, "log_points", refused_once)
    first, second = send_waiting(tmp_path, store)
    assert "it does not answer in time" in first and "is not sent yet" in second
    assert send_waiting(tmp_path, store) == ["", ""]
    (found,) = Reader(store).by_tag("model_sha256", model)
    assert {"loss", "stateful/nats_per_char"} <= found.metrics.keys()


def test_a_deleted_run_gets_nothing_more_and_costs_one_warning(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = write(tmp_path / "deleted", "deleted", 3)
    sender = SpoolSender(spool.folder, store)
    assert sender.send() == ""
    client, _ = open_store(store)
    client.delete_run(sender.sent.run_id)
    for step in range(3, 20):
        spool.append("metrics", points=[["loss", 0.1, step, 1_700_000_000_000 + step], ["rate", 0.1, step, 1]])
    spool.append("end", status="FINISHED")
    spool.close()
    with caplog.at_level(logging.WARNING):
        assert send_waiting(tmp_path, store) == [""]
    assert len(caplog.records) == 1 and "was deleted, and gets nothing more" in caplog.text


def test_a_folder_that_a_kill_left_is_in_nobodys_way(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "gap")
    assert [spool.keep_text("one", "a.txt"), spool.keep_text("two", "b.txt")] == ["0000", "0001"]
    shutil.rmtree(spool.folder / "files/0000")
    assert spool.keep_text("three", "c.txt") == "0002"
    spool.close()
