"""A trained run in the MLflow UI, in a real browser."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--window-size=1500,2200"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, e.g. `apt-get install chromium`"),
]


@pytest.fixture(scope="module")
def ui(trained: Path) -> Iterator[str]:
    """The address of a UI on the trained project's store."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["--backend-store-uri", f"sqlite:///{trained}/mlflow.db", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "ui", *command],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def run_id(trained: Path) -> str:
    with closing(sqlite3.connect(trained / "mlflow.db")) as store:
        return str(store.execute("select run_uuid from runs").fetchone()[0])


def assert_page_shows(url: str, texts: list[str], folder: Path) -> None:
    """The page's DOM after its scripts have run, tried with more and more time; a screenshot is left in `folder`."""
    assert CHROMIUM is not None
    missing = texts
    for budget_ms in (20_000, 60_000, 180_000):
        common = [CHROMIUM, *OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--virtual-time-budget={budget_ms}"]
        subprocess.run([*common, f"--screenshot={folder / 'page.png'}", url], capture_output=True, timeout=180)
        dom = subprocess.run([*common, "--dump-dom", url], capture_output=True, text=True, timeout=180).stdout
        missing = [text for text in texts if text not in dom]
        if not missing:
            return
    pytest.fail(f"{url} does not show {missing}")


def test_the_run_page_shows_parameters_losses_and_tags(ui: str, run_id: str, tmp_path: Path) -> None:
    texts = [
        "train.learning_rate",
        "model.hidden_size",
        "validation/nats_per_char",
        "stateful/nats_per_char",
        "model_sha256",
    ]
    assert_page_shows(f"{ui}/#/experiments/1/runs/{run_id}", texts, tmp_path)


def test_the_charts_are_there(ui: str, run_id: str, tmp_path: Path) -> None:
    assert_page_shows(f"{ui}/#/experiments/1/runs/{run_id}/model-metrics", ["train/gradient_norm"], tmp_path)


def test_the_generated_texts_and_the_loss_curve_are_there(ui: str, run_id: str, tmp_path: Path) -> None:
    artifacts = f"{ui}/#/experiments/1/runs/{run_id}/artifacts"
    texts = ["epoch-001.txt", "evaluate", "samples", "=== prompt"]
    assert_page_shows(f"{artifacts}/texts/epoch-001.txt", texts, tmp_path)
    assert_page_shows(f"{artifacts}/evaluate/loss_curve.png", ["loss_curve.png"], tmp_path)
