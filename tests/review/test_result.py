"""The result that `make repro` prints, and its substitute text."""

import contextlib
import hashlib
import re
from pathlib import Path

import pandas as pd
import pytest

from charlstm.evaluation.baselines import read_baselines
from charlstm.evaluation.results import write_document
from charlstm.params import load_params
from charlstm.review.document import read_review
from charlstm.text.encoded import load_ids
from charlstm.text.vocabulary import load_vocab
from pipeline.lineage.mlflow_run import page_tags
from pipeline.lineage.provenance import provenance_tags
from pipeline.run.dvc import load_paths
from tests.support.projects import Override, stand_in, write_params
from tests.support.stages import run_here, run_stages

DO_NOT_APPLY = "The published losses do not apply: they were measured on another validation text.\n"
PUBLISHED_100 = {
    "protocol": "windowed_100",
    "system": "somebody's [/small] LSTM",
    "nats_per_char": 1.5194,
}


@pytest.fixture
def project(trained_project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "150")
    return trained_project


def publish(project: Path, monkeypatch: pytest.MonkeyPatch, others: Override) -> None:
    """As if published losses had been measured on this project's validation part."""
    vocab = load_vocab(project / "Datasets/encoded/vocab.json")
    val = vocab.decode(
        load_ids(project / "Datasets/encoded/val.npy")
    )  # some characters are U+FFFD in it
    sha256 = hashlib.sha256(val.encode()).hexdigest()
    monkeypatch.setattr("pipeline.evaluate.ORIGINAL_VAL_SHA256", sha256)
    published = {"validation_sha256": sha256, "losses": [PUBLISHED_100]}
    write_params(project, {"evaluate.published": published, **others})


def reported(project: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    run_stages(project, "result")
    return capsys.readouterr().out


def test_a_text_without_published_losses(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = reported(project, capsys)
    metrics = pd.read_json(project / "artifacts/evaluate/metrics.json")
    for protocol in ("windowed_20", "stateful"):
        nats = f"{metrics[protocol]['nats_per_char']:.4f}"
        assert re.search(rf"│ {protocol} +│ {nats} ", said)
    assert "nanoGPT" not in said and DO_NOT_APPLY in said


def test_what_the_loss_is_worth(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = " ".join(reported(project, capsys).split())
    assert "predicts this text better than the model" in said  # it is tiny
    assert "The loss still fell in the last epoch" in said
    found = read_baselines(project / "artifacts/evaluate/baselines.json")
    others = {"ngrams": {"1-gram": 99.0}, "compressors": {"xz": 99.0, "ppmd": 99.0}}
    better = found.model_copy(update=others)
    write_document(project / "artifacts/evaluate/baselines.json", better)
    said = " ".join(reported(project, capsys).split())
    assert "a 1-gram gives 99.0000, xz 99.0000, ppmd 99.0000 bits/char with the same " in said
    assert "The model predicts this text better than a 1-gram, " in said
    assert "The loss still fell" not in said


def test_the_published_text_under_a_published_protocol(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    without = (project / "artifacts/evaluate/loss_curve.png").read_bytes()
    publish(project, monkeypatch, {"evaluate.window_lens": [100]})
    run_stages(project, "evaluate", "sample")
    said = reported(project, capsys)
    (line,) = [line for line in said.splitlines() if "windowed_100" in line]
    assert "1.5194" in line and "somebody's [/small] LSTM" in line
    assert "others" in said and "who" in said
    assert DO_NOT_APPLY not in said
    assert (project / "artifacts/evaluate/loss_curve.png").read_bytes() != without


def write_sample(project: Path, text: str) -> None:
    """As if the model had written it."""
    path = project / "artifacts/samples/review.json"
    review = read_review(path)
    samples = [one.model_copy(update={"text": text}) for one in review.samples]
    write_document(path, review.model_copy(update={"samples": samples}))


def test_a_sample_cannot_command_the_terminal(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sample(project, "a\x1b[2J\x07b\tc\r\nd")
    said = reported(project, capsys)
    assert "\ndef a\\x1b[2J\\x07b" in said
    assert "\nd\n" in said
    assert "\x1b" not in said and "\r" not in said


def test_a_substitute_is_said_wherever_a_result_is(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(project, monkeypatch)
    assert run_here(project, "sample") == 0
    assert "THE TEXT IS A SUBSTITUTE, package==1, " in reported(project, capsys)
    assert "<title>shakespear-fallback" in (project / "artifacts/samples/review.html").read_text()
    with contextlib.chdir(project):
        params, paths = load_params(Path("params.yaml")), load_paths()
        name = page_tags(params, provenance_tags(params, paths))["mlflow.runName"]
        assert name.startswith("FALLBACK package==1 ")
