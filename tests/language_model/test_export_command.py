"""`charlstm export`: its output, its errors, and the example of its page."""

import re
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from charlstm.model.model_folder import load_model, save_model
from pipeline import cli
from tests.support.documented import PAGES, blocks
from tests.support.exports import SMALL, VOCAB, make
from tests.support.projects import captured


def save(folder: Path, factor: float = 3.0) -> Path:
    save_model(folder, make(SMALL[-1], factor=factor).model.state_dict(), SMALL[-1], VOCAB)
    return folder


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    save(tmp_path / "model")
    (tmp_path / "text.txt").write_text("bad cafe\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def export(*arguments: str) -> int:
    return cli.main(["export", *arguments])


def test_it_compares_and_writes_in_any_folder(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export("onnx", "--model", "model") == 0
    num_bytes = (workplace / "model.onnx").stat().st_size
    said = rf"model.onnx: {num_bytes:,} bytes, results within \d\.\de-0[678] of torch's\n"
    assert re.fullmatch(said, capsys.readouterr().out)
    metadata = onnxruntime.InferenceSession("model.onnx").get_modelmeta().custom_metadata_map
    assert metadata["model_sha256"] == load_model(workplace / "model", "fused").sha256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("onnx --model loud", "the ONNX results differ from torch's by"),
        ("folder --model model", "model already exists: choose another name"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    workplace: Path, arguments: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(workplace / "loud", factor=3000.0)
    before = sorted(workplace.rglob("*"))
    assert export(*arguments.split()) == 2
    (record,) = caplog.records
    assert message in record.getMessage() and "\n" not in record.getMessage()
    assert sorted(workplace.rglob("*")) == before


def test_the_page_s_example_samples_without_torch(workplace: Path) -> None:
    assert export("onnx", "--model", "model") == 0
    (example,) = blocks(PAGES["docs/export.md"], "python")
    program = f"import sys\nsys.modules['torch'] = None\n{example}"
    command = [sys.executable, "-W", "error", "-c", program]
    done = captured(command, workplace, PYTHONPATH="", PYTHONUTF8="1")
    assert done.returncode == 0, done.stderr
    model = load_model(workplace / "model", "fused").model
    text = "\n"
    generator = np.random.default_rng(1)
    for _ in range(300):
        logits_BTV, _ = model(torch.from_numpy(VOCAB.encode(text).astype(np.int64))[None])
        probable_V = torch.softmax(logits_BTV[0, -1].double() / 0.8, 0).numpy()
        text += VOCAB.characters[generator.choice(len(VOCAB), p=probable_V)]
    assert done.stdout == f"{text}\n" and len(set(text)) > 10
