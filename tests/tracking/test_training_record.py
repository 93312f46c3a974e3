"""A training's record of its run, and the runs that other processes publish from it."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from charlstm.errors import Interrupted, TrackingError
from charlstm.files.lock import exclusive
from charlstm.history import StepRow
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import ModelShape
from charlstm.tracking.client import Reader, Store, ask, connect
from charlstm.tracking.publish import TRAINING_TAG, Snapshot
from charlstm.tracking.sync import METRICS, PUBLISHED, publish_all, read_rows, read_training
from charlstm.tracking.training_record import TrainingRecord
from charlstm.training.progress import Plan, Progress
from tests.support.stores import EPOCHS, STEPS, history, of_model

PLAN = Plan(1, 10, 640, 7, 1, "cpu", "fp32", "", "character")
MODEL = CharLSTM(ModelShape(3, 0, 2, 1), "gates")


@pytest.fixture
def store(tmp_path: Path, blank_store: Path) -> Store:
    uri = f"sqlite:///{shutil.copy(blank_store, tmp_path)}"
    return Store(uri, "tests", (tmp_path / "artifacts").as_uri())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state/0123456789abcdef"


def record(
    folder: Path, progress: Progress, num_steps: int, training_id: str = "one"
) -> TrainingRecord:
    """Run a training from a checkpoint to a step. The tenth step ends the epoch."""
    folder.mkdir(parents=True, exist_ok=True)
    written = TrainingRecord(folder, training_id, {"train.seed": 7}, {"name": "odd: \udcff"})
    written.on_start(PLAN, progress)
    for row in STEPS[len(progress.steps) : num_steps]:
        written.on_steps(row, 100.0, 64 * row.step)
    if num_steps == 10:
        written.on_epoch(EPOCHS[0], MODEL, 1.0)
        written.log_texts(1, [("a", "b"), ("c", "d")])
    return written


def run_of(store: Store, training_id: str = "one") -> tuple[str, dict[str, str], dict[str, float]]:
    (found,) = Reader(store).by_tag(TRAINING_TAG, training_id)
    return found.status, found.tags, found.metrics


def steps_of(snapshot: Snapshot) -> list[int]:
    return [row.step for row in snapshot.rows]


def test_a_training_is_a_whole_run_of_its_files(store: Store, folder: Path, learned: Path) -> None:
    with record(folder, Progress(), 10) as written:
        written.finish(learned, num_epochs=1, train_seconds=2.0, tags={"later": "yes"})
    assert publish_all(store, folder.parent) == 1
    assert publish_all(store, folder.parent) == 0 and (folder / PUBLISHED).exists()
    status, tags, metrics = run_of(store)
    assert (status, tags["device"]) == ("FINISHED", "cpu")
    assert (tags["later"], tags["name"]) == ("yes", "odd: ?")
    assert (metrics["train/speed"], metrics["train/chars_seen"]) == (320, 640)
    assert metrics["loss/validation"] == 1.9
    (found,) = Reader(store).by_tag(TRAINING_TAG, "one")
    texts = "=== prompt 'a'\nab\n\n=== prompt 'c'\ncd\n"
    assert Reader(store).text(found, "texts/epoch-001.txt") == texts


def test_a_torn_row_is_ignored(folder: Path) -> None:
    record(folder, Progress(), 10)
    with (folder / METRICS).open("a") as file:
        file.write("[11, 17")
    assert steps_of(read_training(folder)) == [*range(1, 11), 10]


def test_a_resumed_training_is_cut_back_to_its_checkpoint(folder: Path) -> None:
    record(folder, Progress(), 7)
    before = read_rows(folder / METRICS)
    record(folder, Progress(step=4, steps=STEPS[:4]), 4)
    # The rows have the times of the first start.
    assert read_rows(folder / METRICS) == before[:4]
    record(folder, Progress(step=10, steps=STEPS, epochs=EPOCHS), 10)
    assert steps_of(read_training(folder)) == [*range(1, 11), 10, 10]
    assert read_rows(folder / METRICS)[:4] == before[:4]


def test_a_checkpoint_of_another_machine_brings_the_rows_that_are_not_here(folder: Path) -> None:
    record(folder, Progress(step=6, steps=STEPS[:6]), 8)
    assert steps_of(read_training(folder)) == list(range(1, 9))


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Interrupted("after step 3"), "KILLED", "after step 3"),
        (ValueError("wrong"), "FAILED", "ValueError: wrong"),
    ],
)
def test_an_ending_says_why(
    store: Store, folder: Path, error: BaseException, status: str, reason: str
) -> None:
    with suppress(type(error)), record(folder, Progress(), 3):
        raise error
    assert publish_all(store, folder.parent) == 1
    found, tags, _ = run_of(store)
    assert (found, tags["ended"]) == (status, reason)


def test_a_run_whose_process_has_died_is_killed_by_whoever_sees_it(
    store: Store, folder: Path
) -> None:
    record(folder, Progress(), 3)
    with exclusive(folder, "a training"):
        assert publish_all(store, folder.parent) == 0  # its own process publishes it
        assert read_training(folder).status == "RUNNING"
    assert publish_all(store, folder.parent) == 1
    status, tags, _ = run_of(store)
    assert status == "KILLED" and "the process disappeared" in tags["ended"]
    (found,) = Reader(store).by_tag(TRAINING_TAG, "one")
    end_ms = connect(store).get_run(found.run_id).info.end_time
    assert end_ms == read_rows(folder / METRICS)[-1].time_ms
    with record(folder, Progress(step=3, steps=STEPS[:3]), 5), exclusive(folder, "a training"):
        assert not (folder / PUBLISHED).exists()
        assert read_training(folder).status == "RUNNING"


def test_a_dead_server_costs_nothing_and_holds_back_the_outputs(store: Store, folder: Path) -> None:
    """The run of the outputs may be that of the training, so it waits for the training."""
    record(folder, Progress(), 10)
    nobody = Store("http://127.0.0.1:9", "tests", None)
    with pytest.raises(TrackingError, match=r"MLflow at http://127.0.0.1:9: .*refused"):
        ask(nobody, lambda: publish_all(nobody, folder.parent, of_model("m0del")))
    assert not (folder / PUBLISHED).exists()
    assert publish_all(store, folder.parent, of_model("m0del")) == 2
    run = connect(store).get_run(Reader(store).all()[0].run_id)
    assert len(history(store, run, "loss/training")) == 10


def test_senders_take_turns_and_make_one_run_of_each_training(store: Store, folder: Path) -> None:
    names = ["one", "two", "three"]
    for name in names:
        record(folder.with_name(name), Progress(), 3, name)
    with ThreadPoolExecutor() as pool:
        sent = [pool.submit(publish_all, store, folder.parent) for _ in range(3)]
    assert sum(count.result() for count in sent) == 3
    for name in names:
        assert len(Reader(store).by_tag(TRAINING_TAG, name)) == 1


def test_a_full_disk_costs_a_warning(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("no folder")
    written = TrainingRecord(folder, "one", {}, {})
    written.on_start(PLAN, Progress())
    written.on_steps(StepRow(1, 1, 2.0, 0.1, 0.5), 100.0, 64)
    assert "`evaluate` will create the MLflow run" in caplog.text
