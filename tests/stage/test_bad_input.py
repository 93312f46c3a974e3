"""Bad input gives one line that says what is wrong, exit code 2, and no half-written output."""

import logging
import os
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
    fifo_instead,
    file_instead_of_folder,
    folder_instead,
    loud_weights,
    nan_weights,
    other_weights,
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
    ("download", fifo_instead("text.txt"), "text.txt: expected a file, found a FIFO"),
    ("download", param("download.source", "/dev/zero"), "/dev/zero: expected a file, found a device"),
    ("download", param("download.source", "a\0b"), "download.source String should match pattern"),
    ("download", folder_instead("text.txt"), "text.txt: expected texts (*.txt, *.text, *.md), found a folder without any"),
    ("download", write("text.txt", "Война и мир\n".encode("cp1251") * 9), "text.txt: expected UTF-8, found byte 0xc2 at offset 0 (line 1); it may be cp1251, which reads 'Война и мир "),
    ("download", param("download.encoding", "klingon"), "download.encoding: expected a text encoding as Python names it, e.g. utf-8, cp1251, gb18030 or utf-16, got 'klingon'"),
    ("download", param("download.source", "."), ".: expected a text outside of Datasets/shakespear.txt"),
    ("download", param("download.newlines", "crlf"), "download.newlines should be 'keep' or 'lf', got \"crlf\""),
    ("download", param("download.sha256", WRONG_HASH), f", expected {WRONG_HASH}; "),
    ("download", param("download.source", "gopher://x/y"), "gopher://x/y: expected a path or an http(s) URL"),
    ("download", file_instead_of_folder("Datasets"), "Datasets"),
    ("download", own_file(CORPUS), "shakespear.txt: expected no file, or one that DVC has kept of this stage, found another, which is left as it is"),
    ("download", own_file(CORPUS, CORPUS), f"{CORPUS}: expected a text outside of {CORPUS}, which the project writes, and no folder that has it"),
    ("download", own_file("Datasets/split/own.txt", "./Datasets/split/own.txt"), "expected a text outside of Datasets/split, which"),
    ("download", own_file("artifacts/model/own.txt", "artifacts/x/../model/own.txt"), "expected a text outside of artifacts/model, which"),
    ("download", param("download.source", f"{CORPUS}.sha256"), f"expected a text outside of {CORPUS}.sha256, which"),
    ("split", remove(CORPUS), f"{CORPUS}: No such file"),
    ("split", write(CORPUS, b""), f"{CORPUS}: damaged, or of another run: shakespear.txt.sha256 expects SHA-256"),
    ("split", remove(f"{CORPUS}.sha256"), f"{CORPUS}.sha256: cannot read the checksums: No such file"),
    ("split", as_downloaded(b""), f"{CORPUS}: expected a text, found an empty file"),
    ("split", as_downloaded(b"x"), "a text of 1 characters splits into 0 for training, 1 for validation"),
    ("split", as_downloaded(b"caf\xe9 au lait"), "byte 0xe9 at offset 3 (line 1)"),
    ("split", param("split.test_fraction", 0.95), "splits into 0 for training, "),
    ("encode", param("encode.min_count", 10**6), "encode.min_count: every character of the training part occurs fewer than 1000000 times"),
    ("encode", remove("Datasets/split/val.txt"), "val.txt: No such file"),
    ("train", remove("params.yaml"), "params.yaml: cannot read the parameters: No such file"),
    ("train", write("params.yaml", b"train:\n  epochs: [1\n"), "params.yaml: not valid YAML: while parsing a flow sequence"),
    ("train", replace("params.yaml", "  epochs: 1", "  epochs: " + "1" * 5000), "params.yaml: not valid YAML: Exceeds the limit"),
    ("train", param("model.num_layers", 1_000_000), "model.num_layers should be less than or equal to 100, got 1000000"),
    ("train", resummed(write("Datasets/encoded/vocab.json", DEEP)), "vocab.json: expected"),
    ("evaluate", write(f"{MODEL}/config.json", DEEP), "config.json: expected the sizes and hashes"),
    ("evaluate", replace(f"{MODEL}/config.json", '"num_layers": 1', '"num_layers": 100000000'), "does not fit config.json: 100000000 layers in"),
    ("evaluate", replace(f"{MODEL}/config.json", '"hidden_size": 16', '"hidden_size": 16000000000'), "does not fit config.json: "),
    ("report", write("artifacts/samples/review.json", DEEP), "review.json: expected the review of a model, found something else (nested too"),
    ("train", remove("dvc.yaml"), "dvc.yaml: cannot read the parameters: No such file"),
    ("train", replace("params.yaml", "  epochs:", "  epoch:"), "train.epochs is missing; train.epoch is not a parameter"),
    ("train", param("model.hidden_size", "sixteen"), 'model.hidden_size should be a valid integer, got "sixteen"'),
    ("train", param("train.batch_size", -4), "train.batch_size should be greater than 0, got -4"),
    ("train", param("train.learning_rate", float("nan")), "train.learning_rate should be"),
    ("train", param("train.context_len", 5000), "a batch_size of 1 or a context_len of 1349 would fit"),
    ("train", param("split.document_separator", "\0"), "split.document_separator: '\\x00' stands nowhere in the encoded training part: the vocabulary lacks"),
    ("split", param("split.document_separator", "\n" * 99), "split.document_separator: '\\n"),
    ("train", param("split.document_separator", ""), "split.document_separator String should have at least 1 character"),
    ("evaluate", param("split.document_separator", "\0"), "split.document_separator: '\\x00' stands nowhere"),
    ("train", param("train.batching", "rivers"), "train.batching should be 'streams', 'windows' or 'sliding_windows', got \"rivers\""),
    ("train", remove(IDS), f"{IDS}: cannot read encoded text: No such file"),
    ("train", cut(IDS), f"{IDS}: damaged, or of another run"),
    ("train", write("Datasets/encoded/SHA256SUMS", b"x\n"), "SHA256SUMS: expected a SHA-256, two spaces and a name"),
    ("train", resummed(cut(IDS)), f"{IDS}: expected a .npy array of ids"),
    ("train", resummed(drop_encoded_character), "does not fit the vocabulary"),
    ("train", resummed(write("Datasets/encoded/vocab.json", b"{")), "vocab.json: expected"),
    ("evaluate", cut(f"{MODEL}/model.safetensors"), "model.safetensors: damaged, or of another model"),
    ("evaluate", other_weights, "model.safetensors: damaged, or of another model"),
    ("evaluate", loud_weights, "artifacts/model: expected a model that was trained, found a loss of"),
    ("evaluate", nan_weights, "found larger ones, NaN or infinity in"),
    ("evaluate", bigger_vocabulary, "vocab.json: damaged, or of another model"),
    ("evaluate", cut(f"{MODEL}/config.json"), "config.json: expected the sizes and hashes"),
    ("evaluate", write("artifacts/train/history.csv", b"epoch\n1\n"), "history.csv: damaged, or of another run"),
    ("sample", param("sample.prompts", ["def ☃"]), "the prompt 'def ☃' has characters that the model never saw: '☃' (U+2603, once)"),
    ("train", several({"train.learning_rate": 300, "train.weight_decay": 0.0, "train.final_learning_rate_fraction": 1.0, "train.ema_decay": 0.0, "model.feed_forward_size": 0}), "nats/char after epoch 1, its perplexity is not finite; lower train.learning_rate"),
    ("sample", param("sample.top_p", 0), "sample.top_p should be greater than 0, got 0"),
    ("sample", folder_instead(f"{MODEL}/vocab.json"), "vocab.json: cannot read the model: Is a directory"),
    ("sample", remove(IDS), f"{IDS}: cannot read encoded text: No such file"),
    ("sample", cut(IDS), f"{IDS}: damaged, or of another run"),
    ("evaluate", cut(IDS), f"{IDS}: damaged, or of another run"),
    ("sample", resummed(drop_encoded_character), "the model and Datasets/encoded have different vocabularies; run `dvc repro`"),
    ("sample", remove("artifacts/evaluate/cells.json"), "cells.json: cannot read what cells track: No such file or directory; `dvc repro evaluate` writes it"),
    ("sample", write("artifacts/evaluate/cells.json", DEEP), "cells.json: expected what cells track, found something else (nested too deeply)"),
    ("sample", remove("artifacts/evaluate/baselines.json"), "baselines.json: cannot read baselines in bits a character: No such file or directory; `dvc repro evaluate` writes it"),
    ("sample", remove("artifacts/evaluate/metrics.json"), "metrics.json: cannot read losses by protocol: No such file or directory; `dvc repro evaluate` writes it"),
    ("sample", write("artifacts/evaluate/metrics.json", DEEP), "metrics.json: expected losses by protocol, found something else (nested too deeply)"),
    ("sample", write("artifacts/evaluate/metrics.json", b'{"stateful": {}}'), "(stateful.nats_per_char: Field required)"),
    ("report", remove("artifacts/samples/review.json"), "review.json: cannot read the review of a model: No such file"),
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder(trained: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(trained, project)
    (project / "Datasets/split").chmod(0o500)
    done = run_stage(project, "split")
    assert done.returncode == 2
    assert "Permission denied" in done.stderr


def test_a_user_sees_no_traceback(trained: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(trained, project)
    as_downloaded(b"")(project)
    done = run_stage(project, "split")
    assert done.returncode == 2
    assert done.stderr == "ERROR: Datasets/shakespear.txt: expected a text, found an empty file\n"
    assert done.stdout == ""
