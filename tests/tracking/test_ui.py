"""Runs in MLflow's UI in a real browser: the table, a run's page, two runs."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from charlstm.tracking.client import Store
from charlstm.tracking.publish import TABLES_TAG
from charlstm.tracking.shared_view import page, share_view
from pipeline.lineage.run_page import RunSummary, page_tags
from pipeline.recipes import Recipe
from tests.support.browser import dom_of, needs_chromium
from tests.support.servers import mlflow_server
from tests.support.stores import of_model, open_store, send

HOSTILE = (
    "<script>document.title='bad'</script> ``` \u202e\u2028 | </pre><img src=x onerror=alert(1)>"
)

pytestmark = [pytest.mark.slow, needs_chromium]


class Site(NamedTuple):
    """Address of the UI, and an experiment with its first run."""

    url: str
    experiment: str
    run: str


@pytest.fixture(scope="module")
def site(blank_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start one server for all pages."""
    folder = tmp_path_factory.mktemp("ui")
    uri = f"sqlite:///{shutil.copy(blank_store, folder)}"
    experiment, run = by_hand(Store(uri, "by hand", (folder / "mlartifacts").as_uri()))
    with mlflow_server(uri, folder / "server.log") as url:
        yield Site(url, experiment, run)


def losses_of(seed: int) -> dict[str, float]:
    return {"stateful": 1.4 + seed / 100, "windowed_100": 1.5}


def summary(seed: int) -> RunSummary:
    return RunSummary(
        model_sha256="ab" * 32,
        corpus=HOSTILE,
        corpus_sha256="c0ffee",
        recipe=Recipe("quick", {}),
        losses=losses_of(seed),
        seed=seed,
        num_parameters=812_345,
    )


def by_hand(store: Store) -> tuple[str, str]:
    """Publish two runs with everything that a run may have. Return the experiment and a run."""
    tables = json.dumps([{"path": "samples/table.json", "type": "table"}])
    for seed in (1, 2):
        texts = [
            (f"ROMEO: · temperature 0.8 · seed {one}", f"text {one} of run {seed}: {HOSTILE}")
            for one in (1, 2)
        ]
        table = pd.DataFrame(texts, columns=["sample", "output"]).to_json(orient="split")
        losses = losses_of(seed).items()
        state = replace(
            of_model(f"m0del{seed}"),
            params={"train.seed": seed},
            tags={**page_tags(summary(seed)), TABLES_TAG: tables},
            measured={f"{protocol}/nats_per_char": loss for protocol, loss in losses},
            texts={"samples/table.json": table},
        )
        send(store, state)
    client, experiment_id = open_store(store)
    assert share_view(client, experiment_id)
    (first,) = client.search_runs([experiment_id], "tags.model_sha256 = 'm0del1'")
    return experiment_id, str(first.info.run_id)


def assert_page_shows(url: str, texts: list[str], folder: Path) -> str:
    """Open the page with more and more time until it shows the texts. Return its document."""
    missing = texts
    for budget_ms in (20_000, 60_000, 180_000):
        dom = dom_of(url, folder, budget_ms, "2400,1600")
        missing = [text for text in texts if text not in dom]
        if not missing:
            return dom
    pytest.fail(f"{url} does not show {missing}")


def test_the_table_shows_names_and_losses(site: Site, tmp_path: Path) -> None:
    names = ["quick · 0.81M · seed 1 · 1.4100", "quick · 0.81M · seed 2 · 1.4200"]
    columns = ["stateful/nats_per_char", "train.seed"]
    url = page(site.url, site.experiment, is_shared=True)
    dom = assert_page_shows(url, [*names, *columns, "Model training"], tmp_path)
    assert "Evaluation runs" not in dom  # a part of the view for language models


def test_two_runs_side_by_side_without_a_click(site: Site, tmp_path: Path) -> None:
    texts = ["text 1 of run 1", "text 1 of run 2", "ROMEO: · temperature 0.8 · seed 2"]
    url = f"{page(site.url, site.experiment, is_shared=True)}&compareRunsMode=ARTIFACT"
    dom = assert_page_shows(url, [*texts, "quick · 0.81M · seed 1 · 1.4100"], tmp_path)
    assert "&lt;script&gt;document.title" in dom and "<img src=x" not in dom
