"""Experiments and registered models per corpus, and stores of older versions."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import charlstm
from charlstm.tracking.client import Reader, Store, connect
from charlstm.tracking.registered_model import LoggedModel
from pipeline.commands.ui import _find_runs
from pipeline.run.store import store as store_here
from tests.support.registries import sha256_of
from tests.support.stores import of_model, send


@pytest.fixture
def store(tmp_path: Path, blank_store: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    shutil.copy(blank_store, tmp_path / "mlflow.db")
    artifacts = (tmp_path / "mlartifacts").as_uri()
    return Store(f"sqlite:///{tmp_path}/mlflow.db", "charlstm", artifacts, is_by_corpus=True)


def measure(
    store: Store, model: str, corpus: str | None, loss: float, folder: Path | None = None
) -> None:
    """Publish a model as evaluate does. Without a corpus, publish it as an older version did."""
    tags = {"corpus": f"{corpus}.txt", "corpus_sha256": "ab" * 32}
    if corpus:
        tags["corpus_name"] = corpus
    logged = None
    if folder:
        logged = LoggedModel(folder, model, {"stateful": loss}, f"validation of {corpus}")
    measured = {"stateful/nats_per_char": loss}
    send(store, replace(of_model(model, tags), measured=measured, model=logged))


def experiments(store: Store) -> dict[str, str]:
    """Return the ids of experiments by name."""
    found = connect(store).search_experiments()
    return {one.name: one.experiment_id for one in found if one.name != "Default"}


def experiment_of(store: Store, model: str) -> str:
    """Return the name of the experiment that has the model's only run."""
    (run,) = Reader(store).by_tag("model_sha256", model)
    client = connect(store)
    return str(client.get_experiment(client.get_run(run.run_id).info.experiment_id).name)


def test_losses_of_different_texts_are_in_different_experiments(
    store: Store, tmp_path: Path
) -> None:
    models = {"m0": "bible", "m1": "shakespeare-1.5+x", "m2": "bible"}
    for model, corpus in models.items():
        measure(store, model, corpus, 1.4)
    for model, corpus in models.items():
        assert experiment_of(store, model) == f"charlstm/{corpus}"
    ids = experiments(store)
    assert set(ids) == {"charlstm/bible", "charlstm/shakespeare-1.5+x"}
    pages = [(name, found) for name, found, _ in _find_runs(store, "shakespeare-1.5+x")]
    assert pages == [(name, ids[name]) for name in ("charlstm/shakespeare-1.5+x", "charlstm/bible")]


def test_each_corpus_has_its_champion_at_its_own_address(
    store: Store, tmp_path: Path, learned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = sha256_of(learned)
    measure(store, sha256, "bible", 1.4, learned)
    client = connect(store)
    version = client.get_model_version_by_alias("charlstm-bible", "champion")
    assert version.tags["stateful/nats_per_char"] == "1.4"
    description = client.get_registered_model("charlstm-bible").description
    assert "models:/charlstm-bible@champion" in description
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
