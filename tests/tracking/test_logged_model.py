"""Trained models in real MLflow stores: their code, their weights and their packages."""

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from charlstm.tracking.registered_model import requirements
from tests.support.registries import new_run, sha256_of, whole_chain


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, blank_store: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{shutil.copy(blank_store, tmp_path_factory.mktemp('store'))}")


@pytest.fixture
def experiment_id(client: Any, tmp_path: Path) -> str:
    return str(client.create_experiment(tmp_path.name, (tmp_path / "artifacts").as_uri()))


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")  # it must have no effect


def test_what_is_stored_is_code_weights_and_exact_versions(
    client: Any,
    experiment_id: str,
    trained: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "a folder #1 with 100 %"
    folder.symlink_to(trained / "artifacts/model")
    whole_chain(client, new_run(client, experiment_id), folder, sha256_of(folder))
    (model,) = client.search_logged_models([experiment_id])
    root = Path(model.artifact_location.removeprefix("file://"))
    files = {str(file.relative_to(root)) for file in root.rglob("*") if file.is_file()}
    expected = {"MLmodel", "served_model.py", "requirements.txt"}
    assert expected | {"artifacts/model/model.safetensors"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pyc", ".pickle"))]
    for name in ("model.safetensors", "config.json", "vocab.json"):
        assert (root / "artifacts/model" / name).read_bytes() == (folder / name).read_bytes()
    found = (root / "requirements.txt").read_text().split()
    assert found == requirements()
    assert f"torch=={version('torch').partition('+')[0]}" in found
    assert all("==" in line and "+" not in line for line in found)
