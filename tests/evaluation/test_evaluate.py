"""How much of the held-out parts is measured, and that the test part stands apart."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charlstm.files.checksums import SUMS, write_sums
from charlstm.model.model_folder import load_model
from charlstm.model.protocols import stateful, windowed
from charlstm.text.encoded import EncodedText, load_ids
from tests.support.projects import write_params
from tests.support.stages import run_stages
from tests.support.stores import query

ENCODED, NAMES = "Datasets/encoded", ["train.npy", "val.npy", "test.npy", "vocab.json"]


@pytest.fixture
def project(trained_project: Path) -> Path:
    """Return a trained project whose test part is the training part's beginning."""
    folder = trained_project / ENCODED
    np.save(folder / "test.npy", np.load(folder / "train.npy")[:700])
    write_sums(folder / SUMS, NAMES)
    return trained_project


def measured(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project / "artifacts/evaluate/metrics.json").read_text())
    return found


def test_the_test_part_is_scored_apart_after_all_else(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = measured(project)
    run_stages(project, "evaluate")
    found = measured(project)
    assert list(found) == ["windowed_20", "stateful", "test_windowed_20", "test_stateful"]
    assert {name: found[name] for name in before} == before
    trained = load_model(project / "artifacts/model", "fused")
    text = EncodedText(load_ids(project / ENCODED / "test.npy"))
    expected = {
        "test_stateful": stateful(trained.model, text),
        "test_windowed_20": windowed(trained.model, text, 20),
    }
    for name, loss in expected.items():
        assert found[name]["nats_per_char"] == loss.nats_per_char
    assert found["test_stateful"]["num_chars"] == 699

    run_stages(project, "sample")
    capsys.readouterr()
    run_stages(project, "result")
    assert "test_stateful" in capsys.readouterr().out


def test_the_run_has_the_test_losses_and_the_registry_has_not(project: Path) -> None:
    run_stages(project, "evaluate")
    found = {name: loss["nats_per_char"] for name, loss in measured(project).items()}
    metrics = dict(query(project, "select key, value from latest_metrics"))
    assert metrics["test_stateful/nats_per_char"] == found["test_stateful"]
    shown = dict(query(project, "select key, value from tags"))
    assert shown["mlflow.runName"].endswith(f"{found['stateful']:.4f}")
    tags = dict(query(project, "select key, value from model_version_tags"))
    assert "windowed_20/nats_per_char" in tags
    assert not [one for one in tags if one.startswith("test_")]


def test_a_beginning_may_be_measured_and_the_counts_say_so(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_params(project, {"evaluate.max_chars": 301})
    with caplog.at_level(logging.INFO, "charlstm"):
        run_stages(project, "evaluate")
    found = measured(project)
    assert {loss["num_chars"] for loss in found.values()} == {300}
    for part in ("600 characters of the validation part", "700 characters of the test part"):
        assert f"the first 301 of {part} are measured (evaluate.max_chars)" in caplog.text
    trained = load_model(project / "artifacts/model", "fused")
    val = load_ids(project / ENCODED / "val.npy")
    expected = stateful(trained.model, EncodedText(val[:301]))
    assert found["stateful"]["nats_per_char"] == expected.nats_per_char
