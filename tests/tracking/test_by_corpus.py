"""Experiments and registered models per corpus."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import charlstm
from charlstm.tracking.client import Store, connect
from charlstm.tracking.registered_model import LoggedModel
from pipeline.commands.ui import find_experiments
from pipeline.run.store import store as store_here
from tests.support.registries import sha256_of
from tests.support.stores import of_model, send


@pytest.fixture
def store(tmp_path: Path, blank_store: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    shutil.copy(blank_store, tmp_path / "mlflow.db")
    artifacts = (tmp_path / "mlartifacts").as_uri()
    return Store(f"sqlite:///{tmp_path}/mlflow.db", "charlstm", artifacts, is_by_corpus=True)


def measure(store: Store, model: str, corpus: str, loss: float, folder: Path | None = None) -> None:
    """Publish a model as evaluate does."""
    logged = None
    if folder:
        logged = LoggedModel(folder, model, {"stateful": loss}, f"validation of {corpus}")
    send(store, replace(of_model(model, {"corpus_name": corpus}), model=logged))


def test_losses_of_different_texts_are_in_different_experiments(store: Store) -> None:
    for model, corpus in {"m0": "bible", "m1": "shakespeare-1.5+x", "m2": "bible"}.items():
        measure(store, model, corpus, 1.4)
    client = connect(store)
    ids = {one.name: one.experiment_id for one in client.search_experiments()}
    for name, num_runs in {"charlstm/bible": 2, "charlstm/shakespeare-1.5+x": 1}.items():
        assert len(client.search_runs([ids[name]])) == num_runs
    names = ["charlstm/shakespeare-1.5+x", "charlstm/bible"]
    found = find_experiments(store, "shakespeare-1.5+x")
    assert list(found.items()) == [(name, ids[name]) for name in names]


def test_each_corpus_has_its_champion_at_its_own_address(
    store: Store, learned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = sha256_of(learned)
    measure(store, sha256, "bible", 1.4, learned)
    client = connect(store)
    version = client.get_model_version_by_alias("charlstm-bible", "champion")
    assert version.tags["stateful/nats_per_char"] == "1.4"
    measure(store, "m1", "shakespeare-1.5+x", 1.5, learned)
    names = ["charlstm-bible", "charlstm-shakespeare-1.5+x"]
    assert [one.name for one in client.search_registered_models()] == names
    for name in names:
        model = charlstm.load(f"models:/{name}@champion", tracking_uri=store.uri)
        assert model.info["model_sha256"] == sha256
    from mlflow import pyfunc

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    assert pyfunc.load_model("models:/charlstm-shakespeare-1.5+x@champion").metadata.model_id


def test_mlflows_own_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    assert store_here().experiment_of("bible") == "charlstm/bible"
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "7")
    assert store_here().experiment_of("bible") == "7"
