"""Runs in real MLflow stores: published repeatedly, with their models, from files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from charlstm.tracking.client import Reader, Store, connect
from charlstm.tracking.publish import TABLES_TAG, TRAINING_TAG, Snapshot, publish
from charlstm.tracking.registered_model import LoggedModel
from tests.support.registries import Died, Dying
from tests.support.stores import COMMIT_MS, curves, history, of_model, send

TIMES = list(range(COMMIT_MS + 1, COMMIT_MS + 11))  # of ten steps
PARAMS: dict[str, str | int | float] = {
    "train.seed": 7,
    "train.optimizer": "muon",
    "train.muon.learning_rate": 0.3,
    "train.learning_rate": 0.1,
}
URL = "https://me:hunter2@host/text.txt?X-Amz-Signature=hunter2"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, blank_store: Path) -> Store:
    root = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{shutil.copy(blank_store, root)}"
    return Store(uri, "tests", (root / "artifacts").as_uri())


def training(
    name: str, num_steps: int = 10, status: str = "RUNNING", times: list[int] = TIMES
) -> Snapshot:
    """Return the snapshot of a training after `num_steps`."""
    return Snapshot(
        TRAINING_TAG,
        name,
        COMMIT_MS,
        curves(times, num_steps),
        PARAMS,
        {"corpus": "text.txt"},
        status=status,
    )


def test_a_run_that_is_published_again_gets_what_is_new_and_nothing_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")  # it must have no effect
    for num_steps in (0, 3, 3, 7):
        run = send(store, training("again", num_steps))
        assert run.info.status == "RUNNING"
    # Killed at step 7, and resumed from step 4.
    times = TIMES[:4] + [time_ms + 5000 for time_ms in TIMES[4:]]
    end_ms = COMMIT_MS + 9000
    resumed = replace(training("again", times=times), status="FINISHED", end_ms=end_ms)
    for _ in range(2):
        run = send(store, resumed)
    for name in ("loss/training", "train/gradient_norm", "train/learning_rate"):
        points = history(store, run, name)
        assert points["step"].tolist() == list(range(1, 11))
        assert points["time_ms"].tolist() == TIMES[:7] + times[7:]
    assert history(store, run, "loss/validation")["step"].tolist() == [10]
    assert (run.info.status, run.info.start_time) == ("FINISHED", COMMIT_MS)
    assert run.info.end_time == end_ms
    # A machine that comes back does not change a finished run.
    assert send(store, training("again", status="KILLED")).info.status == "FINISHED"


def test_a_call_that_died_anywhere_is_finished_by_the_next(store: Store, trained: Path) -> None:
    client = connect(store)
    deaths = 0
    losses = {"stateful": 3.6, "windowed_20": 3.5}
    while True:
        name = f"dying-{deaths}"
        state = replace(
            training(name, status="FINISHED"),
            texts={"texts/one.txt": "one"},
            measured={"speed": 2.0},
            model=LoggedModel(trained / "artifacts/model", name, losses, "cd" * 32),
        )
        try:
            publish(Dying(client, deaths + 1), store, state)
            break
        except Died:
            deaths += 1
        run = send(store, state)
        (found,) = Reader(store).by_tag(TRAINING_TAG, state.value)
        assert (found.run_id, found.status, len(found.params)) == (run.info.run_id, "FINISHED", 4)
        assert history(store, run, "loss/training")["step"].tolist() == list(range(1, 11))
        assert len(history(store, run, "speed")) == 1
        assert Reader(store).text(found, "texts/one.txt") == "one"
        (output,) = run.outputs.model_outputs
        model = client.get_logged_model(output.model_id)
        assert (model.status, model.source_run_id) == ("READY", found.run_id)
        (version,) = client.search_model_versions(f"tags.model_sha256 = '{name}'")
        assert (version.run_id, version.source) == (found.run_id, model.artifact_location)
        assert version.tags["stateful/nats_per_char"] == "3.6"
    assert len(client.search_logged_models([run.info.experiment_id])) == deaths + 1
    assert deaths > 16


def test_a_later_stage_adds_to_the_run_of_the_model(store: Store, tmp_path: Path) -> None:
    finished = training("first", status="FINISHED")
    first = send(store, replace(finished, tags={"model_sha256": "m0de1"}))
    table = pd.DataFrame({"output": ["a", "b"]}).to_json(orient="split", index=False)
    (tmp_path / "curve.png").write_bytes(b"png")
    shown = json.dumps([{"path": "samples/table.json", "type": "table"}])
    state = replace(
        of_model("m0de1"),
        params={"train.seed": 7, "sample.seeds": "[1]"},
        measured={"stateful/nats_per_char": 1.7},
        tags={TABLES_TAG: shown},
        texts={"samples/table.json": table},
        files={"evaluate/curve.png": tmp_path / "curve.png"},
    )
    for _ in range(2):
        run = send(store, state)
    assert run.info.run_id == first.info.run_id and "made_from" not in run.data.tags
    assert len(history(store, run, "stateful/nats_per_char")) == 1
    assert len(history(store, run, "loss/training")) == 10
    (found,) = Reader(store).by_tag("model_sha256", "m0de1")
    assert Reader(store).text(found, "samples/table.json") == table
    assert Reader(store).text(found, "evaluate/curve.png") == "png"
    again = send(store, replace(state, params={"sample.seeds": "[2]"}, measured={}))
    assert again.data.params["sample.seeds"] == "[1]"  # MLflow keeps the first value


def test_a_store_that_never_saw_the_model_gets_a_run_from_the_files(store: Store) -> None:
    for _ in range(2):
        run = send(store, of_model("fr0mfiles"))
    assert (run.info.status, run.data.params["train.seed"]) == ("FINISHED", "7")
    assert run.data.tags["made_from"] == "files"
    points = history(store, run, "loss/training")
    assert points["step"].tolist() == list(range(1, 11))
    assert {*points["time_ms"], run.info.start_time, run.info.end_time} == {COMMIT_MS}


def test_a_database_is_complete_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        assert list(tmp_path.glob(".new.db.*"))
        raise KeyboardInterrupt

    monkeypatch.setattr("mlflow.MlflowClient.search_experiments", fail)
    with pytest.raises(KeyboardInterrupt):
        connect(Store(f"sqlite:///{tmp_path}/new.db"))
    assert not (tmp_path / "new.db").exists()


def test_passwords_stay_out_of_parameters_and_tags(store: Store) -> None:
    secret = replace(of_model("s3cret", {"corpus": URL}), params={"download.source": URL})
    send(store, secret)
    run = send(store, replace(secret, tags={"again": URL}))
    tags = run.data.tags
    shown = {run.data.params["download.source"], tags["corpus"], tags["again"]}
    assert shown == {"https://host/text.txt?X-Amz-Signature=***"}
    assert "hunter2" not in f"{run.data.params}{run.data.tags}"


def test_an_epoch_whose_last_steps_were_sent_before_it_is_sent(store: Store) -> None:
    send(store, replace(training("epoch"), rows=training("epoch").rows[:-1]))
    assert len(history(store, send(store, training("epoch")), "loss/validation")) == 1
