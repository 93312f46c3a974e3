"""`make ui`: one line in each case, and no process is left."""

import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from pipeline import cli
from tests.support.projects import PYTHON, captured
from tests.support.servers import free_port

VIEW = "#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=charlstm"


def error_of(caplog: pytest.LogCaptureFixture, port: int) -> str:
    caplog.clear()
    assert cli.main(["ui", "--port", str(port)]) == 2
    (record,) = [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    message = record.getMessage()
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_run(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert error_of(caplog, free_port()) == (
        f"{project}/mlflow.db: this MLflow database does not exist yet; "
        "if your runs are in another store, set MLFLOW_TRACKING_URI"
    )
    assert [one.name for one in project.iterdir()] == ["dvc.yaml"]


def test_a_port_that_is_taken(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        message = error_of(caplog, port)
    assert message.startswith(f"port {port} is not available: ")


@pytest.mark.slow
def test_it_serves_until_ctrl_c(trained_project: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    line = f"charlstm/shakespear: {address}/{VIEW}\n"
    command = [*PYTHON, "pipeline.cli", "ui"]
    shown = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=trained_project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert shown.stdout is not None and shown.stdout.readline() == line
    urllib.request.urlopen(f"{address}/health", timeout=30).close()
    servers = psutil.Process(shown.pid).children(recursive=True)
    assert servers
    other = captured(command, trained_project, MLFLOW_TRACKING_URI=address)
    assert (other.returncode, other.stdout, other.stderr) == (0, line, "")

    shown.send_signal(signal.SIGINT)
    out, err = shown.communicate(timeout=60)
    assert (out, err) == ("", "MLflow's server is starting ...\n")
    assert shown.returncode == 0
    deadline = time.monotonic() + 10
    while any(server.is_running() for server in servers):
        assert time.monotonic() < deadline
        time.sleep(0.1)
