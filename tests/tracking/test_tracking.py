"""Runs in real MLflow stores in temporary folders, and with a server that is not there."""

import json
import logging
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from outboxes import outbox

from charlstm.errors import TrackingError
from charlstm.history import EpochRow, StepRow, Tables, table
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import ModelShape
from charlstm.tracking.client import Store
from charlstm.tracking.reader import Reader
from charlstm.tracking.registered_model import MODEL_TAG
from charlstm.tracking.runs import Measurement, TrainingRecord, TrainingTracker, attach
from charlstm.training.progress import Plan, Progress

EPOCH, STEP = EpochRow(1, 10, 2.0, 1.9), StepRow(10, 1, 2.0, 0.1, 0.5)
MODEL = CharLSTM(ModelShape(2, 2, 2, 1), "gates")
PLAN = Plan(1, 10, 1000, 99, 1, "cpu", "fp32", "because", "character", 1000, 104)
PARAMS: dict[str, str | int | float] = {
    "train.seed": 7,
    "train.optimizer": "muon",
    "train.muon.learning_rate": 0.3,
    "train.learning_rate": 0.1,
}
CORPUS = {"corpus": "text.txt", "corpus_sha256": "c0ffee"}
COMMIT_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("store")
    return Store(f"sqlite:///{root}/mlflow.db", "tests", (root / "artifacts").as_uri())


def record(loss: float = 1.9) -> TrainingRecord:
    epochs = table([EPOCH._replace(val_nats_per_char=loss)], EpochRow._fields)
    return TrainingRecord(PARAMS, CORPUS, Tables(epochs, table([STEP], StepRow._fields)), COMMIT_MS)


def client(store: Store) -> Any:  # noqa: ANN401  # MLflow's client has no annotations
    from mlflow import MlflowClient

    return MlflowClient(store.uri)


def runs(store: Store, model: str) -> list[Any]:
    experiment = client(store).get_experiment_by_name(store.experiment)
    return list(client(store).search_runs([experiment.experiment_id], f"tags.{MODEL_TAG} = '{model}'"))


@pytest.mark.parametrize("name", ["plain", "it's one", 'so "called"', """it's "both\""""])
def test_a_run_is_found_by_its_name_whatever_quotes_it_has(store: Store, name: str) -> None:
    experiment = client(store).get_experiment_by_name("names")
    experiment_id = experiment.experiment_id if experiment else client(store).create_experiment("names")
    expected = client(store).create_run(experiment_id, run_name=name).info.run_id
    assert [run.run_id for run in Reader(store).by_name(name)] == [expected]


def test_a_training_fills_one_run_that_later_stages_find(store: Store, tmp_path: Path) -> None:
    params = {**PARAMS, "sample.seeds": "[1]"}
    tracker = TrainingTracker(outbox(tmp_path, store), params, CORPUS, "first")
    tracker.on_start(PLAN, Progress())
    tracker.on_steps(STEP, 1234.5)
    tracker.on_epoch(EPOCH, MODEL, 2.0)
    tracker.log_texts(1, [("\n", "some text")])
    tracker.finish("m0de1", 2.0)
    later = attach(outbox(tmp_path, store), "m0de1", record())
    later.log_metrics([Measurement("stateful/nats_per_char", 1.7)])
    later.log_params({"train.seed": 7, "sample.seeds": "[2]", "evaluate.window_lens": "[5]"})
    later.log_table("samples/table.json", pd.DataFrame({"text": ["old"]}))
    later.log_table("samples/table.json", pd.DataFrame({"text": ["a", "b"]}))
    later.close()

    (run,) = runs(store, "m0de1")
    assert list(tmp_path.glob("*/events.jsonl")) == []  # all is sent
    assert run.info.status == "FINISHED"
    numbers = {name: str(value) for name, value in PARAMS.items()}
    assert run.data.params == numbers | {"sample.seeds": "[1]", "evaluate.window_lens": "[5]"}
    assert run.data.tags["changed.sample.seeds"] == "[2]"
    assert [one.params["sample.seeds"] for one in Reader(store).by_id(run.info.run_id)] == ["[2]"]
    back = attach(outbox(tmp_path, store), "m0de1", record())
    back.log_params({"sample.seeds": "[1]"})
    back.close()
    assert "changed.sample.seeds" not in runs(store, "m0de1")[0].data.tags
    assert run.data.tags["corpus_sha256"] == "c0ffee"
    assert run.data.tags["num_processes"] == "1"
    assert "made_from" not in run.data.tags
    expected: dict[str, object] = {
        "train/nats_per_char": 2.0,
        "train/gradient_norm": 0.5,
        "train/epoch_nats_per_char": 2.0,
    }
    expected |= {"validation/nats_per_char": 1.9, "validation/epoch": 1, "train/chars_seen": 1000}
    expected |= {"learning_rate/adamw": 0.1, "learning_rate/muon": pytest.approx(0.3), "model/num_parameters": 99}
    expected |= {"train/chars_per_second": 1234.5, "train/seconds": 2.0, "train/speed": 500.0}
    assert run.data.metrics == expected | {"stateful/nats_per_char": 1.7}
    assert client(store).get_metric_history(run.info.run_id, "validation/nats_per_char")[0].step == 10
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert (folder / "texts/epoch-001.txt").read_text() == "=== prompt '\\n'\n\nsome text\n"
    assert list(pd.read_json(folder / "samples/table.json", orient="split")["text"]) == ["a", "b"]
    tables = [one["path"] for one in json.loads(run.data.tags["mlflow.loggedArtifacts"])]
    assert tables == ["samples/table.json"]


def test_a_store_that_never_saw_the_model_gets_a_run_from_the_files(store: Store, tmp_path: Path) -> None:
    for _ in range(2):
        attach(outbox(tmp_path, store), "fr0mfiles", record(1.5)).close()
    (run,) = runs(store, "fr0mfiles")
    assert run.data.metrics["validation/nats_per_char"] == 1.5
    assert run.data.params["train.seed"] == "7"
    assert run.data.tags["made_from"] == "files"
    assert run.info.status == "FINISHED"
    (point,) = client(store).get_metric_history(run.info.run_id, "train/nats_per_char")
    assert (run.info.start_time, point.timestamp, run.info.end_time) == (COMMIT_MS,) * 3


def test_a_failed_training_is_not_tied_to_a_model(store: Store, tmp_path: Path) -> None:
    tracker = TrainingTracker(
        outbox(tmp_path, store), PARAMS, CORPUS | {"purpose": "failing", "dvc_exp_name": "ugly-name"}, "second"
    )
    tracker.abandon("FAILED", "no reason")  # not even started: no run
    tracker.on_start(PLAN, Progress())
    tracker.abandon("FAILED", "the loss is not finite at step 3")
    experiment = client(store).get_experiment_by_name(store.experiment)
    (run,) = client(store).search_runs([experiment.experiment_id], "tags.purpose = 'failing'")
    assert run.info.status == "FAILED"
    assert run.data.tags["ended"] == "the loss is not finite at step 3"
    assert MODEL_TAG not in run.data.tags
    assert run.data.tags["dvc_exp_name"] == "ugly-name (not recorded: FAILED)"


def test_one_thing_that_fails_does_not_end_the_tracking(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = TrainingTracker(outbox(tmp_path, store), PARAMS, CORPUS, "third")
    tracker.on_start(PLAN, Progress())
    tracker.run.log_file(Path("missing.png"))
    tracker.run.log_metrics([Measurement("no name that MLflow takes: \x00", 1.0)])
    tracker.on_epoch(EPOCH, MODEL, 2.0)
    tracker.finish("m0de2", 2.0)
    (run,) = runs(store, "m0de2")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["validation/nats_per_char"] == 1.9
    assert "missing.png is not sent" in caplog.text
    assert "MLflow refuses an event (Metrics)" in caplog.text


@pytest.mark.parametrize("secret", ["me:hunter2@", "me:s3c@hunter2@", "hunter2:hunter2/hunter2@", "hunter2@"])
@pytest.mark.parametrize("kind", ["http", "postgresql", "mysql", "unknown"])
def test_passwords_stay_out_of_messages(secret: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with pytest.raises(TrackingError) as caught:
        Reader(Store(f"{kind}://{secret}127.0.0.1:9/x?token=hunter2", "tests", None))
    assert f"MLflow at {kind}://127.0.0.1:9/x?token=***" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_passwords_stay_out_of_parameters_and_tags(store: Store, tmp_path: Path) -> None:
    url = "https://me:hunter2@host/text.txt?X-Amz-Signature=hunter2"
    secret = record()._replace(params={**PARAMS, "download.source": url}, tags=CORPUS | {"corpus": url})
    attach(outbox(tmp_path, store), "s3cret", secret).close()
    later = attach(outbox(tmp_path, store), "s3cret", secret)
    later.set_tags({"again": url})
    later.log_params({"download.source": f"{url}&page=2"})
    later.close()
    (run,) = runs(store, "s3cret")
    shown = "https://host/text.txt?X-Amz-Signature=***"
    assert run.data.params["download.source"] == run.data.tags["corpus"] == run.data.tags["again"] == shown
    assert run.data.tags["changed.download.source"] == f"{shown}&page=2"
    assert "hunter2" not in f"{run.data.params}{run.data.tags}"


def test_a_dead_server_costs_a_warning_and_little_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    dead, started = Store("http://127.0.0.1:9", "tests", None), time.monotonic()
    with caplog.at_level(logging.WARNING):
        tracker = TrainingTracker(outbox(tmp_path, dead), PARAMS, CORPUS, "fourth")
        tracker.on_start(PLAN, Progress())
        tracker.on_epoch(EPOCH, MODEL, 1.0)
        tracker.finish("m0de1", 1.0)
    assert time.monotonic() - started < 20
    assert caplog.text.count("MLflow at http://127.0.0.1:9") == 1
    assert "nothing is lost: what is missing is sent later" in caplog.text
    assert (tmp_path / "fourth/events.jsonl").exists()
