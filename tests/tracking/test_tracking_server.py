"""The pipeline with a team's server: artifacts over HTTP, passwords."""

import base64
import json
import logging
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from charlstm.files.checksums import sha256
from charlstm.model.shape import WEIGHTS
from tests.support.servers import mlflow_server
from tests.support.stages import run_stages

USER = "trainer"
PASSWORD = "hunter2-hunter2"
ADMIN_PASSWORD = "only-for-the-admin"

pytestmark = pytest.mark.slow


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    return tmp_path / "artifacts"


@pytest.fixture
def server(artifacts: Path, blank_store: Path) -> Iterator[str]:
    """Yield the address of a server that knows the user."""
    folder = artifacts.parent
    (folder / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
        f"database_uri = sqlite:///{folder}/users.db\n"
        "admin_username = admin\n"
        "auth_cache_ttl_seconds = 60\n"  # without it, each request hashes the password
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    env = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "anything",
    }
    options = ["--app-name", "basic-auth", "--serve-artifacts", "--artifacts-destination"]
    store = f"sqlite:///{shutil.copy(blank_store, folder)}"
    with mlflow_server(store, folder / "server.log", *options, str(artifacts), env=env) as url:
        user = json.dumps({"username": USER, "password": PASSWORD}).encode()
        ask(f"{url}/api/2.0/mlflow/users/create", "admin", ADMIN_PASSWORD, user)
        yield url


def ask(url: str, user: str, password: str, data: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, data)
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    request.add_header("Authorization", f"Basic {credentials}")
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


def only_run(server: str) -> Any:
    from mlflow import MlflowClient

    client = MlflowClient(server)
    (experiment,) = [one for one in client.search_experiments() if one.name.startswith("charlstm/")]
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def test_the_whole_pipeline_ends_up_in_one_run(
    project: Path,
    server: str,
    artifacts: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (project / "mlflow.db").unlink()
    for name, value in {"URI": server, "USERNAME": USER, "PASSWORD": PASSWORD}.items():
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    with caplog.at_level(logging.WARNING):
        run_stages(project, "train", "evaluate", "sample")
    assert "MLflow" not in caplog.text
    assert not (project / "mlflow.db").exists() and not (project / "mlartifacts").exists()

    run = only_run(server)
    assert run.info.status == "FINISHED"
    assert run.data.tags["model_sha256"] == sha256(project / "artifacts/model" / WEIGHTS)
    assert run.data.params["train.epochs"] == "1"

    assert run.info.artifact_uri.startswith("mlflow-artifacts:")
    path = run.info.artifact_uri.split("mlflow-artifacts:", 1)[1].lstrip("/")
    table = f"{server}/api/2.0/mlflow-artifacts/artifacts/{path}/evaluate/blocks.csv"
    answer = ask(table, USER, PASSWORD)
    assert answer == (project / "artifacts/evaluate/blocks.csv").read_bytes()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        ask(table, USER, "another password")
    stored = [file for file in artifacts.rglob("*") if file.is_file()]
    assert len(stored) >= 4

    out, err = capfd.readouterr()
    files = [file.read_bytes().decode(errors="replace") for file in stored]
    everything = [str(run.to_dictionary()), caplog.text, out, err, *files]
    assert not any(secret in one for secret in (PASSWORD, ADMIN_PASSWORD) for one in everything)
