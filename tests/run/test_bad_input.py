"""Bad input: one line that says what is wrong, exit code 2, no half-written output."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from charlstm.files.checksums import sums_of, write_sums
from pipeline.run.stage import main
from tests.support.commands import only_error
from tests.support.projects import write_params
from tests.support.stages import run_stage

Spoil = Callable[[Path], object]
CORPUS = "Datasets/shakespear.txt"
ENCODED = "Datasets/encoded"
MODEL = "artifacts/model"
DIVERGING = {
    "train.learning_rate": 300,
    "train.weight_decay": 0.0,
    "train.final_learning_rate_fraction": 1.0,
    "train.ema_decay": 0.0,
    "model.feed_forward_size": 0,
}


def params(**values: object) -> Spoil:
    """Return a function that writes other values by dotted name."""
    return lambda folder: write_params(folder, values)


def write(name: str, content: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str) -> Spoil:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-7])


def as_downloaded(content: bytes) -> Spoil:
    """Return a function that writes the corpus and its checksums, as after a download."""

    def spoil(folder: Path) -> None:
        (folder / CORPUS).write_bytes(content)
        write_sums(sums_of(folder / CORPUS), ["shakespear.txt"])

    return spoil


def other_vocabulary(folder: Path) -> None:
    """Remove a character from the vocabulary, and correct its checksum."""
    path = folder / ENCODED / "vocab.json"
    path.write_text(json.dumps({"characters": json.loads(path.read_text())["characters"][:-1]}))
    write_sums(folder / ENCODED / "SHA256SUMS", ["train.npy", "val.npy", "vocab.json"])


def tables_of_another_model(folder: Path) -> None:
    """Change the model's checksum in the tables of its training."""
    sums = folder / "artifacts/train/SHA256SUMS"
    sums.write_text(re.sub(r"\w+(?=  .*model.safetensors)", "0" * 64, sums.read_text()))


CASES = [
    ("split", as_downloaded(b"caf\xe9 au lait"), "byte 0xe9 at offset 3 (line 1)"),
    (
        "encode",
        write("Datasets/split/SHA256SUMS", b""),
        "train.txt is damaged or comes from another run",
    ),
    ("train", write("params.yaml", b"train:\n  epochs: [1\n"), "params.yaml: not valid YAML"),
    ("train", cut(f"{ENCODED}/train.npy"), "train.npy is damaged or comes from another run"),
    ("train", params(**DIVERGING), "its perplexity is not finite; lower train.learning_rate"),
    (
        "evaluate",
        write("artifacts/train/history.csv", b"epoch\n1\n"),
        "history.csv is damaged or comes from another run",
    ),
    ("evaluate", tables_of_another_model, "model.safetensors is damaged or comes from another run"),
    (
        "sample",
        params(**{"sample.prompts": ["def ☃"]}),
        "the prompt 'def ☃' has characters that the model never saw",
    ),
    ("sample", other_vocabulary, "the model and Datasets/encoded have different vocabularies"),
    (
        "sample",
        write("artifacts/evaluate/metrics.json", b'{"stateful": {}}'),
        "(stateful.nats_per_char: Field required)",
    ),
    (
        "result",
        write("artifacts/samples/review.json", b"["),
        "review.json: expected the review of a model",
    ),
]
OUTPUTS = {
    "split": ["Datasets/split"],
    "encode": [ENCODED],
    "train": [MODEL, "artifacts/train"],
    "evaluate": ["artifacts/evaluate"],
    "sample": ["artifacts/samples"],
    "result": [],
}


def files_of(project: Path) -> set[Path]:
    """Return all files that a stage could leave in declared outputs or in git."""
    ignored = {"__pycache__", ".charlstm"}
    return {file for file in project.rglob("*") if not ignored & set(file.parts)}


@pytest.mark.parametrize(("stage", "spoil", "expected"), CASES)
def test_one_line_exit_2_nothing_half_written(
    trained_project: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stage: str,
    spoil: Spoil,
    expected: str,
) -> None:
    monkeypatch.chdir(trained_project)
    for output in OUTPUTS[stage]:  # as DVC does before a stage
        shutil.rmtree(output)
    spoil(trained_project)
    before = files_of(trained_project)

    with caplog.at_level(logging.WARNING):
        code = main([stage])

    error = only_error(caplog)
    assert code == 2
    assert expected in error and "\n" not in error
    left = files_of(trained_project) - before
    assert {file.name for file in left} <= {"mlflow.db", "mlartifacts"}


def test_a_user_sees_no_traceback(trained_project: Path) -> None:
    as_downloaded(b"")(trained_project)
    done = run_stage(trained_project, "split")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ERROR: Datasets/shakespear.txt: expected a text, found an empty file\n"
