"""Runs in MLflow's UI in a real browser: the table, and two runs side by side."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from charlstm.tracking.client import Store
from charlstm.tracking.publish import TABLES_TAG
from charlstm.tracking.shared_view import page_url, share_view
from tests.support.browser import dom_of, needs_chromium
from tests.support.servers import mlflow_server
from tests.support.stores import of_model, open_store, send

HOSTILE = (
    "<script>document.title='bad'</script> ``` \u202e\u2028 | </pre><img src=x onerror=alert(1)>"
)

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture
def address(blank_store: Path, tmp_path: Path) -> Iterator[str]:
    """Yield the address of MLflow's page of an experiment with two runs."""
    uri = f"sqlite:///{shutil.copy(blank_store, tmp_path)}"
    experiment = by_hand(Store(uri, "by hand", (tmp_path / "mlartifacts").as_uri()))
    with mlflow_server(uri, tmp_path / "server.log") as url:
        yield page_url(url, experiment)


def by_hand(store: Store) -> str:
    """Publish two runs with everything that a run may have. Return the experiment."""
    tables = json.dumps([{"path": "samples/table.json", "type": "table"}])
    for seed in (1, 2):
        texts = [
            (f"ROMEO: · temperature 0.8 · seed {one}", f"text {one} of run {seed}: {HOSTILE}")
            for one in (1, 2)
        ]
        table = pd.DataFrame(texts, columns=["sample", "output"]).to_json(orient="split")
        losses = {"stateful": 1.4 + seed / 100, "windowed_100": 1.5}
        state = replace(
            of_model(f"m0del{seed}"),
            params={"train.seed": seed},
            tags={"mlflow.runName": f"quick · seed {seed}", TABLES_TAG: tables},
            measured={f"{protocol}/nats_per_char": loss for protocol, loss in losses.items()},
            texts={"samples/table.json": table},
        )
        send(store, state)
    client, experiment_id = open_store(store)
    assert share_view(client, experiment_id)
    return experiment_id


def assert_page_shows(url: str, texts: list[str], folder: Path) -> str:
    """Open the page with more and more time until it shows the texts. Return its document."""
    missing = texts
    for budget_ms in (20_000, 60_000, 180_000):
        dom = dom_of(url, folder, budget_ms, "2400,1600")
        missing = [text for text in texts if text not in dom]
        if not missing:
            return dom
    pytest.fail(f"{url} does not show {missing}")


def test_the_table_and_two_texts_side_by_side_without_a_click(address: str, tmp_path: Path) -> None:
    names = ["quick · seed 1", "quick · seed 2"]
    columns = ["stateful/nats_per_char", "train.seed"]
    dom = assert_page_shows(address, [*names, *columns, "Model training"], tmp_path)
    assert "Evaluation runs" not in dom  # a part of the view for language models
    texts = ["text 1 of run 1", "text 1 of run 2", "ROMEO: · temperature 0.8 · seed 2"]
    dom = assert_page_shows(f"{address}&compareRunsMode=ARTIFACT", [*texts, names[0]], tmp_path)
    assert "&lt;script&gt;document.title" in dom and "<img src=x" not in dom
