"""`charlstm export` from outside: what it prints and writes, what it refuses, and the page about it."""

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
from charlstm.model.model_folder import load_model, save_model
from pipeline import cli


def save(folder: Path, factor: float = 3.0) -> Path:
    save_model(folder, make(SMALL[-1], factor=factor).model.state_dict(), SMALL[-1], VOCAB)
    return folder


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, and no project."""
    save(tmp_path / "model")
    (tmp_path / "text.txt").write_text("bad cafe\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def export(*arguments: str) -> int:
    return cli.main(["export", *arguments])


def test_it_compares_and_writes_in_any_folder(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export("onnx", "--model", "model") == 0
    said = (
        rf"model.onnx: {(workplace / 'model.onnx').stat().st_size:,} bytes, results within \d\.\de-0[678] of torch's\n"
    )
    assert re.fullmatch(said, capsys.readouterr().out)
    metadata = onnxruntime.InferenceSession("model.onnx").get_modelmeta().custom_metadata_map
    assert metadata["model_sha256"] == load_model(workplace / "model", "fused").sha256


def test_in_a_project_it_finds_the_model(workplace: Path) -> None:
    write_params(workplace, {})
    (workplace / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    save(workplace / "artifacts/model")
    assert export("onnx", "-o", "own.onnx") == 0 and (workplace / "own.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("onnx --model nowhere", "nowhere: expected a model, which is a folder with config.json, model"),
        ("onnx --model model -o no/model.onnx", "no/model.onnx: there is no folder no; make it first, or choose"),
        ("onnx --model model -o model", "model: is a folder; name a file by --output"),
        ("onnx --model model -o /proc/model.onnx", "No such file or directory"),
        ("onnx --model loud", "expected results within 0.0001 of torch's, found a difference of"),
        ("folder --model nowhere -o copy", "nowhere: expected a model, which is a folder"),
        ("folder --model model", "model: exists already; choose another --output"),
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


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_without_the_extra_it_says_what_to_install(
    workplace: Path, package: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in [*sys.modules]:
        if module.startswith((f"{package}.", "charlstm.onnx_export")):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    assert export("onnx", "--model=model") == 2 and not (workplace / "model.onnx").exists()
    install = "`pip install --editable 'PATH/TO/THE/CHECKOUT[onnx]'` brings it"
    assert caplog.messages == [f"{package} is not installed: {install}"]


def test_the_page_s_example_samples_without_torch(workplace: Path) -> None:
    """It draws what torch's probabilities give with the same generator."""
    assert export("onnx", "--model", "model") == 0
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
    assert export("onnx", "--model", "model") == 0
    session = onnxruntime.InferenceSession("model.onnx")
    rows = re.findall(r"^\| (`.*?) \|", PAGES["docs/export.md"], re.M)
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert names == [value.name for value in [*session.get_inputs(), *session.get_outputs()]]
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


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As `-o /dev/null` would be, by root."""
    os.mkfifo(tmp_path / "pipe")
    assert export("onnx", "-o", str(tmp_path / "pipe")) == 2
    assert "expected the name of a file to write, found a FIFO" in caplog.text and (tmp_path / "pipe").is_fifo()
