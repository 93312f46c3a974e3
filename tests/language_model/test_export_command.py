"""`charlstm export onnx` from outside: what it prints and writes, what it refuses, and the page about it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from documented import PAGES, blocks
from exports import SMALL, VOCAB, make

from benchmarks.projects import ROOT, write_params
from charlstm.evaluation.protocols import stateful
from charlstm.model.model_folder import load_model, save_model
from charlstm.model.shape import ModelShape
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab
from pipeline import cli

TEXT = "bad cafe\n'a faded decade'\n" * 20
SHAPE = SMALL[-1]


def save(folder: Path, shape: ModelShape = SHAPE, factor: float = 3.0) -> Path:
    save_model(folder, make(shape, factor=factor).model.state_dict(), shape, VOCAB)
    return folder


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and a text, and no project."""
    save(tmp_path / "model")
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def export(*arguments: str) -> int:
    return cli.main(["export", "onnx", *arguments])


def test_it_compares_and_writes_in_any_folder(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("--model", "model", "--check", "text.txt") == 0
    *costs, size = capsys.readouterr().out.splitlines()
    trained = load_model(workplace / "model", "fused")
    loss = stateful(trained.model, EncodedText(trained.vocab.encode(TEXT))).nats_per_char
    assert costs[0] == f"torch: {loss:.4f} nats/char"
    assert re.fullmatch(rf"onnxruntime: {loss:.4f} nats/char, logits differ by up to \d\.\de-0[678]", costs[1])
    assert len(costs) == 2
    num_bytes = (workplace / "model.onnx").stat().st_size
    assert size == f"model.onnx: {num_bytes:,} bytes"
    assert sorted(file.name for file in workplace.iterdir()) == ["model", "model.onnx", "text.txt"]
    metadata = onnxruntime.InferenceSession("model.onnx").get_modelmeta().custom_metadata_map
    assert metadata["model_sha256"] == trained.sha256


def test_a_text_is_read_as_the_validation_part_is(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vocab = Vocab.of(f"{VOCAB.characters}\N{REPLACEMENT CHARACTER}")
    shape = SHAPE._replace(vocab_size=len(vocab))
    save_model(workplace / "signed", make(shape).model.state_dict(), shape, vocab)
    (workplace / "other.txt").write_text("bad jazz cafe\n")
    assert export("--model", "signed", "--check", "other.txt") == 0
    trained = load_model(workplace / "signed", "fused")
    text = "bad jazz cafe\n".translate(dict.fromkeys(map(ord, "jz"), "\N{REPLACEMENT CHARACTER}"))
    loss = stateful(trained.model, EncodedText(vocab.encode(text))).nats_per_char
    assert capsys.readouterr().out.startswith(f"torch: {loss:.4f} nats/char\n")


def test_in_a_project_it_finds_the_model(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_params(workplace, {})
    (workplace / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    save(workplace / "artifacts/model")
    assert export("-o", "own.onnx") == 0
    assert capsys.readouterr().out == f"own.onnx: {(workplace / 'own.onnx').stat().st_size:,} bytes\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model nowhere", "nowhere: expected a model, which is a folder with config.json, model"),
        ("", "this is no project, so it has no model; name one by --model FOLDER"),
        (
            "--model model --output no/model.onnx",
            "no/model.onnx: there is no folder no; make it first, or choose another",
        ),
        ("--model model --output text.txt/model.onnx", "text.txt/model.onnx: there is no folder text.txt"),
        ("--model model --output model", "model: is a folder; name a file by --output"),
        ("--model model --output /proc/model.onnx", "No such file or directory"),
        ("--model model --check nowhere.txt", "nowhere.txt: No such file"),
        ("--model model --check model", "model: Is a directory"),
        (
            "--model model --check one.txt",
            "one.txt: expected at least 2 characters, one to read and one to guess, found 1",
        ),
        (
            "--model model --check empty.txt",
            "empty.txt: expected at least 2 characters, one to read and one to guess, found 0",
        ),
        ("--model model --check other.txt", "other.txt: the vocabulary of 15 characters lacks 'z' (U+007A, 2 times)"),
        ("--model loud --check text.txt", "expected logits within 0.0001 of torch's, found a difference of"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    workplace: Path, arguments: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    (workplace / "one.txt").write_text("a")
    (workplace / "empty.txt").touch()
    (workplace / "other.txt").write_text("a jazz")
    if "loud" in arguments:
        save(workplace / "loud", factor=3000.0)
    before = sorted(workplace.rglob("*"))
    assert export(*arguments.split()) == 2
    (record,) = caplog.records
    assert message in record.getMessage() and "\n" not in record.getMessage()
    assert sorted(workplace.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model nowhere", "nowhere: expected a model, which is a folder"),
        ("--model model", "model: exists already; choose another --output"),
        ("--model model -o copy --check text.txt", "--check: expected the format onnx, got folder"),
    ],
)
def test_a_folder_that_cannot_be_written_is_one_line(
    workplace: Path, arguments: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = sorted(workplace.rglob("*"))
    if "nowhere" in arguments:
        arguments += " -o copy"
    assert cli.main(["export", "folder", *arguments.split()]) == 2
    (record,) = caplog.records
    assert record.getMessage().startswith(message) and sorted(workplace.rglob("*")) == before


def test_another_format_is_refused(workplace: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert cli.main(["export", "tflite", "--model", "model"]) == 2
    assert "'tflite' is not" in caplog.text
    assert cli.main(["export"]) == 2
    assert "Missing argument 'FORMAT'" in caplog.text


@pytest.mark.parametrize(
    ("package", "option", "code"),
    [
        ("onnx", "", 2),
        ("onnxruntime", "--check=text.txt", 2),
        ("onnxruntime", "", 0),
    ],
)
def test_without_the_extra_it_says_what_to_install(
    workplace: Path,
    package: str,
    option: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The plain export needs onnx alone."""
    for module in [*sys.modules]:
        if module.startswith((f"{package}.", "charlstm.onnx_export")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    assert export("--model=model", *filter(None, [option])) == code
    install = (
        f"{package} is not installed: `pip install --editable 'PATH/TO/THE/CHECKOUT[onnx]'` brings what ONNX needs"
    )
    assert caplog.messages == ([install] if code else [])
    assert (workplace / "model.onnx").exists() == (code == 0)


def test_the_page_s_example_samples_without_torch(workplace: Path) -> None:
    """It draws what torch's probabilities give with the same generator."""
    assert export("--model", "model") == 0
    (example,) = blocks(PAGES["docs/export.md"], "python")
    program = f"import sys\nsys.modules['torch'] = None\n{example}"
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    model, text, generator = load_model(workplace / "model", "fused").model, "\n", np.random.default_rng(1)
    for _ in range(300):
        logits_BTV, _ = model(torch.from_numpy(VOCAB.encode(text).astype(np.int64))[None])
        drawn = generator.choice(len(VOCAB), p=torch.softmax(logits_BTV[0, -1].double() / 0.8, 0).numpy())
        text += VOCAB.characters[drawn]
    assert done.stdout == f"{text}\n" and len(set(text)) > 10


def test_the_page_s_table_is_the_file(workplace: Path) -> None:
    assert export("--model", "model") == 0
    session = onnxruntime.InferenceSession("model.onnx")
    values = [*session.get_inputs(), *session.get_outputs()]
    names = [
        name
        for row in re.findall(r"^\| (`.*?) \|", PAGES["docs/export.md"], re.M)
        for name in re.findall(r"`(\w+)`", row)
    ]
    assert names == [value.name for value in values]
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["vocabulary"]) == list(VOCAB.characters)
    assert all(f"`{key}`" in PAGES["docs/export.md"] for key in metadata)


@pytest.mark.parametrize("command", [["export", "onnx"], ["sweep"], ["review", "HEAD"]])
def test_nothing_is_written_where_dvc_would_remove_it(
    copy: Path, caplog: pytest.LogCaptureFixture, command: list[str]
) -> None:
    (copy / "link").symlink_to(copy / "artifacts/model")
    for file in ("artifacts/samples/mine.html", "link/mine.html", str(copy / "artifacts/train/mine.html")):
        caplog.clear()
        assert cli.main([*command, "-o", file]) == 2
        assert "before its stage runs: write elsewhere" in caplog.text
    assert not list(Path().rglob("mine.html"))


@pytest.mark.parametrize("command", [["export", "onnx"], ["sweep"], ["review", "HEAD"]])
def test_what_is_no_file_is_not_replaced_by_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, command: list[str]
) -> None:
    """As `-o /dev/null` would be, by root."""
    os.mkfifo(tmp_path / "pipe")
    assert cli.main([*command, "-o", str(tmp_path / "pipe")]) == 2
    assert "expected the name of a file to write, found a FIFO" in caplog.text and (tmp_path / "pipe").is_fifo()
