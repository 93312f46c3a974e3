"""Models by their addresses in a real MLflow store."""

import shutil
import sys
from pathlib import Path

import pytest

import charlstm
from charlstm.errors import TrackingError
from tests.support.registries import new_run, sha256_of, whole_chain

Logged = tuple[str, dict[str, str]]


@pytest.fixture(scope="module")
def logged(learned: Path, blank_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Logged:
    """Return the store, and addresses of a model in it."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("logged")
    uri = f"sqlite:///{shutil.copy(blank_store, folder)}"
    client = MlflowClient(uri)
    experiment_id = str(client.create_experiment("tests", (folder / "artifacts").as_uri()))
    run_id = new_run(client, experiment_id)
    sent = shutil.copytree(learned, folder / "sent")
    whole_chain(client, run_id, sent, sha256_of(learned))
    shutil.rmtree(sent)
    (model,) = client.search_logged_models([experiment_id])
    addresses = {
        "alias": "models:/charlstm@champion",
        "version": "models:/charlstm/1",
        "logged model": f"models:/{model.model_id}",
        "run": f"runs:/{run_id}",
    }
    return uri, addresses


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@pytest.mark.parametrize("kind", ["alias", "version", "logged model", "run"])
def test_each_address_leads_to_the_model(logged: Logged, learned: Path, kind: str) -> None:
    uri, addresses = logged
    model = charlstm.load(addresses[kind], tracking_uri=uri)
    expected = charlstm.load(learned)
    assert model.info == expected.info
    assert model.generate("The ", num_chars=20) == expected.generate("The ", num_chars=20)


def test_by_default_the_store_is_that_of_mlflow(
    logged: Logged, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    uri, addresses = logged
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert charlstm.load(addresses["alias"]).info["hidden_size"] == 64
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        TrackingError, match=rf"{tmp_path}/mlflow.db: this MLflow database does not"
    ):
        charlstm.load(addresses["alias"])
    assert list(tmp_path.iterdir()) == []
    shutil.copy(uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    assert charlstm.load(addresses["alias"]).info["hidden_size"] == 64


@pytest.mark.parametrize(
    "address",
    ["models:/charlstm@nobody", "models:/other/1", "models:/m-0", "runs:/0"],
)
def test_what_is_not_there_is_one_line(logged: Logged, address: str) -> None:
    with pytest.raises(TrackingError) as caught:
        charlstm.load(address, tracking_uri=logged[0])
    assert str(caught.value).startswith(f"{address}: MLflow at sqlite:///")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["models:/charlstm", "models:/a/b/c"])
def test_another_address_is_one_line(logged: Logged, address: str) -> None:
    expected = f"{address}: the address must be models:/NAME@ALIAS, models:/NAME/VERSION"
    with pytest.raises(TrackingError, match=expected):
        charlstm.load(address, tracking_uri=logged[0])


def test_without_mlflow_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrackingError, match="MLflow is not installed"):
        charlstm.load("models:/charlstm@champion")
