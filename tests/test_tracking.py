"""Real MLflow stores in temporary folders, and a server that is not there."""

import logging
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from charlstm.tracking.client import Store
from charlstm.tracking.measurements import Measurement
from charlstm.tracking.runs import MODEL_TAG, TrainingRecord, attach, read_metrics
from charlstm.tracking.tracker import TrainingTracker
from charlstm.training.history import EpochRow, StepRow, TextRow, table
from charlstm.training.observer import Plan
from charlstm.training.progress import Progress

EPOCH, STEP, TEXT = EpochRow(1, 10, 2.0, 1.9), StepRow(10, 1, 2.0, 0.1, 0.5), TextRow(1, "\n", "some text")
PLAN = Plan(1, 10, 1000, 99, 1, "cpu", "float32")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("store")
    return Store(f"sqlite:///{root}/mlflow.db", "tests", (root / "artifacts").as_uri())


def record(loss: float = 1.9) -> TrainingRecord:
    return TrainingRecord(
        {"train.seed": 7},
        {"corpus_sha256": "c0ffee"},
        table([EPOCH._replace(val_nats_per_char=loss)], EpochRow._fields),
        table([STEP], StepRow._fields),
        table([TEXT], TextRow._fields),
    )


def client(store: Store) -> Any:  # noqa: ANN401  # MLflow's client has no annotations
    from mlflow import MlflowClient

    return MlflowClient(store.uri)


def runs(store: Store, model: str) -> list[Any]:
    experiment = client(store).get_experiment_by_name(store.experiment)
    return list(client(store).search_runs([experiment.experiment_id], f"tags.{MODEL_TAG} = '{model}'"))


def test_a_training_fills_one_run_that_later_stages_find(store: Store) -> None:
    tracker = TrainingTracker(store, {"train.seed": 7, "sample.seeds": "[1]"}, {"corpus_sha256": "c0ffee"}, "first")
    tracker.on_start(PLAN, Progress())
    tracker.on_steps(STEP, 1234.5)
    tracker.on_epoch(EPOCH, [TEXT], 2.0)
    tracker.finish("m0de1", [TEXT], 2.0)
    later = attach(store, "m0de1", record())
    later.log_metrics([Measurement("stateful.nats_per_char", 1.7)])
    later.log_params({"train.seed": 7, "sample.seeds": "[2]", "evaluate.window_lens": "[5]"})
    for _ in range(2):
        later.log_table("samples/x/samples.json", pd.DataFrame({"text": ["a", "b"]}))
    later.close()

    (run,) = runs(store, "m0de1")
    assert run.info.status == "FINISHED"
    assert run.data.params == {"train.seed": "7", "sample.seeds": "[1]", "evaluate.window_lens": "[5]"}
    assert run.data.tags["changed.sample.seeds"] == "[2]"
    back = attach(store, "m0de1", record())
    back.log_params({"sample.seeds": "[1]"})
    back.close()
    assert "changed.sample.seeds" not in runs(store, "m0de1")[0].data.tags
    assert run.data.tags["corpus_sha256"] == "c0ffee"
    assert run.data.tags["num_processes"] == "1"
    expected = {"val_loss": 1.9, "train_loss": 2.0, "epoch_train_loss": 2.0, "learning_rate": 0.1, "gradient_norm": 0.5}
    expected |= {"chars_per_second": 1234.5, "train_seconds": 2.0, "train_speed": 500.0, "num_parameters": 99}
    assert run.data.metrics == expected | {"stateful.nats_per_char": 1.7}
    assert read_metrics(store, "m0de1") == run.data.metrics
    assert client(store).get_metric_history(run.info.run_id, "val_loss")[0].step == 1
    assert client(store).get_metric_history(run.info.run_id, "train_loss")[0].step == 10
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert (folder / "texts/epoch-001.txt").read_text() == "=== prompt '\\n'\n\nsome text\n"
    assert len(pd.read_json(folder / "samples/x/samples.json", orient="split")) == 2


def test_a_store_that_never_saw_the_model_gets_a_run_from_the_files(store: Store) -> None:
    for _ in range(2):
        attach(store, "fr0mfiles", record(1.5)).close()
    (run,) = runs(store, "fr0mfiles")
    assert run.data.metrics["val_loss"] == 1.5
    assert run.data.params == {"train.seed": "7"}
    assert run.data.tags["made_from"] == "files"
    assert run.info.status == "FINISHED"


def test_a_failed_training_is_not_tied_to_a_model(store: Store) -> None:
    tracker = TrainingTracker(store, {}, {"purpose": "failing"}, "second")
    tracker.abandon("FAILED")  # not even started: no run
    tracker.on_start(PLAN, Progress())
    tracker.abandon("FAILED")
    (run,) = client(store).search_runs(["1"], "tags.purpose = 'failing'")
    assert run.info.status == "FAILED"
    assert MODEL_TAG not in run.data.tags


def test_one_thing_that_fails_does_not_end_the_tracking(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    tracker = TrainingTracker(store, {}, {}, "third")
    tracker.on_start(PLAN, Progress())
    for _ in range(2):
        tracker.run.log_file(Path("missing.png"))
    tracker.on_epoch(EPOCH, [TEXT], 2.0)
    tracker.finish("m0de2", [TEXT], 2.0)
    (run,) = runs(store, "m0de2")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["val_loss"] == 1.9
    assert caplog.text.count("nothing is lost: the files") == 1


@pytest.mark.parametrize("secret", ["me:hunter2@", "me:s3c@hunter2@", "hunter2:hunter2/hunter2@", "hunter2@"])
@pytest.mark.parametrize("kind", ["http", "postgresql", "mysql", "unknown"])
def test_passwords_stay_out_of_the_log(
    secret: str, kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    assert read_metrics(Store(f"{kind}://{secret}127.0.0.1:9/x?token=hunter2", "tests", None), "m0de1") == {}
    assert f"MLflow at {kind}://127.0.0.1:9/x?token=***" in caplog.text
    assert "hunter2" not in caplog.text


def test_passwords_stay_out_of_parameters_and_tags(store: Store) -> None:
    url = "https://me:hunter2@host/text.txt?X-Amz-Signature=hunter2"
    secret = record()._replace(params={"download.source": url}, tags={"corpus": url})
    attach(store, "s3cret", secret).close()
    later = attach(store, "s3cret", secret)
    later.set_tags({"again": url})
    later.log_params({"download.source": f"{url}&page=2"})
    later.close()
    (run,) = runs(store, "s3cret")
    shown = "https://host/text.txt?X-Amz-Signature=***"
    assert run.data.params["download.source"] == run.data.tags["corpus"] == run.data.tags["again"] == shown
    assert run.data.tags["changed.download.source"] == f"{shown}&page=2"
    assert "hunter2" not in f"{run.data.params}{run.data.tags}"


def test_a_dead_server_costs_a_warning_and_little_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    dead, started = Store("http://127.0.0.1:9", "tests", None), time.monotonic()
    with caplog.at_level(logging.WARNING):
        tracker = TrainingTracker(dead, {"train.seed": 1}, {}, "fourth")
        tracker.on_start(PLAN, Progress())
        tracker.on_epoch(EPOCH, [TEXT], 1.0)
        tracker.finish("m0de1", [TEXT], 1.0)
    assert time.monotonic() - started < 20
    assert caplog.text.count("MLflow at http://127.0.0.1:9") == 1
    assert "the files have everything" in caplog.text
    assert read_metrics(dead, "m0de1") == {}
