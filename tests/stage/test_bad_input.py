"""Bad input gives one line that says what is wrong, exit code 2, and no half-written output."""

import logging
import shutil
from importlib import import_module
from pathlib import Path

import pytest
from spoil import (
    CORPUS,
    IDS,
    MODEL,
    Spoil,
    as_downloaded,
    bigger_vocabulary,
    cut,
    drop_encoded_character,
    folder_instead,
    loud_weights,
    nan_weights,
    own_file,
    param,
    remove,
    replace,
    resummed,
    several,
    write,
)
from stages import run_stage

from pipeline.stage.stage import run

DEEP = b"[" * 100_000
WRONG_HASH = "f" * 64
CASES = [
    ("download", remove("text.txt"), "text.txt: No such file or directory"),
    ("download", folder_instead("text.txt"), "text.txt: expected texts (*.txt, *.text, *.md), found a folder without any"),
    ("download", write("text.txt", "Война и мир\n".encode("cp1251") * 9), "text.txt: expected UTF-8, found byte 0xc2 at offset 0 (line 1); it may be cp1251, which reads 'Война и мир "),
    ("download", param("download.sha256", WRONG_HASH), f", expected {WRONG_HASH}; "),
    ("download", own_file(CORPUS), "shakespear.txt: expected no file, or one that DVC has kept of this stage, found another, which is left as it is"),
    ("download", own_file(CORPUS, CORPUS), f"{CORPUS}: expected a text outside of {CORPUS}, which the project writes, and no folder that has it"),
    ("split", remove(f"{CORPUS}.sha256"), f"{CORPUS}.sha256: cannot read the checksums: No such file"),
    ("split", as_downloaded(b""), f"{CORPUS}: expected a text, found an empty file"),
    ("split", as_downloaded(b"x"), "a text of 1 characters splits into 0 for training, 1 for validation"),
    ("split", as_downloaded(b"caf\xe9 au lait"), "byte 0xe9 at offset 3 (line 1)"),
    ("encode", param("encode.min_count", 10**6), "encode.min_count: every character of the training part occurs fewer than 1000000 times"),
    ("encode", remove("Datasets/split/val.txt"), "val.txt: No such file"),
    ("train", remove("params.yaml"), "params.yaml: cannot read the parameters: No such file"),
    ("train", write("params.yaml", b"train:\n  epochs: [1\n"), "params.yaml: not valid YAML: while parsing a flow sequence"),
    ("evaluate", write(f"{MODEL}/config.json", DEEP), "config.json: expected the sizes and hashes"),
    ("report", write("artifacts/samples/review.json", DEEP), "review.json: expected the review of a model, found something else (nested too"),
    ("train", replace("params.yaml", "  epochs:", "  epoch:"), "train.epochs is missing; train.epoch is not a parameter"),
    ("train", param("train.context_len", 5000), "a batch_size of 1 or a context_len of 1349 would fit"),
    ("train", param("split.document_separator", "\0"), "split.document_separator: '\\x00' stands nowhere in the encoded training part: the vocabulary lacks"),
    ("train", cut(IDS), f"{IDS}: damaged, or of another run"),
    ("train", write("Datasets/encoded/SHA256SUMS", b"x\n"), "SHA256SUMS: cannot read the checksums: expected a SHA-256, two"),
    ("train", resummed(drop_encoded_character), "does not fit the vocabulary"),
    ("evaluate", cut(f"{MODEL}/model.safetensors"), "model.safetensors: damaged, or of another model"),
    ("evaluate", loud_weights, "artifacts/model: expected a model that was trained, found a loss of"),
    ("evaluate", nan_weights, "found larger ones, NaN or infinity in"),
    ("evaluate", bigger_vocabulary, "vocab.json: damaged, or of another model"),
    ("evaluate", write("artifacts/train/history.csv", b"epoch\n1\n"), "history.csv: damaged, or of another run"),
    ("sample", param("sample.prompts", ["def ☃"]), "the prompt 'def ☃' has characters that the model never saw: '☃' (U+2603, once)"),
    ("train", several({"train.learning_rate": 300, "train.weight_decay": 0.0, "train.final_learning_rate_fraction": 1.0, "train.ema_decay": 0.0, "model.feed_forward_size": 0}), "nats/char after epoch 1, its perplexity is not finite; lower train.learning_rate"),
    ("sample", folder_instead(f"{MODEL}/vocab.json"), "vocab.json: cannot read the model: Is a directory"),
    ("sample", resummed(drop_encoded_character), "the model and Datasets/encoded have different vocabularies; run `dvc repro`"),
    ("sample", remove("artifacts/evaluate/cells.json"), "cells.json: cannot read what cells track: No such file or directory; `dvc repro evaluate` writes it"),
    ("sample", write("artifacts/evaluate/metrics.json", b'{"stateful": {}}'), "(stateful.nats_per_char: Field required)"),
]  # fmt: skip
OUTPUTS = {
    "download": ["Datasets/shakespear.txt", "Datasets/shakespear.txt.sha256"],
    "split": ["Datasets/split"],
    "encode": ["Datasets/encoded"],
    "train": ["artifacts/model", "artifacts/train"],
    "evaluate": ["artifacts/evaluate"],
    "sample": ["artifacts/samples"],
    "report": [],
}


def files_of(project: Path) -> set[Path]:
    """All that a stage could leave, but for what is neither declared nor in git: caches, the state of a training."""
    return {file for file in project.rglob("*") if not {"__pycache__", ".charlstm"} & set(file.parts)}


@pytest.mark.parametrize(("stage", "spoil", "expected"), CASES)
def test_one_line_exit_2_nothing_half_written(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    stage: str,
    spoil: Spoil,
    expected: str,
) -> None:
    project = tmp_path / "project"
    shutil.copytree(trained, project)
    monkeypatch.chdir(project)
    for output in OUTPUTS[stage]:  # as DVC does before a stage runs
        path = project / output
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if stage == "download":
        (project / "Datasets").rename(project / "elsewhere")
    spoil(project)
    before = files_of(project)

    with caplog.at_level(logging.WARNING):
        code = run(import_module(f"pipeline.{stage}").run, [])

    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert code == 2, errors
    assert len(errors) == 1
    assert expected in errors[0]
    assert "\n" not in errors[0]
    after = files_of(project)
    assert {file.name for file in after - before} <= {"mlflow.db", "mlartifacts", "Datasets"}  # a folder that is empty


def test_a_user_sees_no_traceback(trained: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(trained, project)
    as_downloaded(b"")(project)
    done = run_stage(project, "split")
    assert done.returncode == 2
    assert done.stderr == "ERROR: Datasets/shakespear.txt: expected a text, found an empty file\n"
    assert done.stdout == ""
