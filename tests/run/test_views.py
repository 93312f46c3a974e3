"""Views show results and decide no byte of them: so a changed one leaves models up to date and trainings resumable."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from layers import VIEWS, file_of, is_in, module_names

from benchmarks.projects import write_params
from pipeline.run.stage import load
from pipeline.run.unfinished import fingerprint

SILENT = """
class {}:
    def __init__(self, *_: object) -> None: ...
    def __getattr__(self, name: str) -> object:
        return lambda *_: None
"""
ALL = """
from pipeline import evaluate, sample, train
from pipeline.run.stage import run
assert [run(stage.run, []) for stage in (train, evaluate, sample)] == [0, 0, 0]
"""


@pytest.fixture
def project(encoded: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(encoded, folder)
    return folder


def outputs(project: Path) -> dict[str, bytes]:
    files = [file for file in (project / "artifacts").rglob("*") if file.is_file()]
    return {str(file.relative_to(project)): file.read_bytes() for file in files}


def edit(project: Path, file: Path) -> None:
    with (project / file).open("a") as code:
        code.write("# another comment\n")


def test_without_tracker_console_and_observers_the_bytes_are_the_same(project: Path, trained: Path) -> None:
    (project / "mlflow.db").unlink()
    with (project / "pipeline/run/console.py").open("a") as console:
        console.write(SILENT.format("TrainingConsole"))
    (project / "charlstm/tracking/tracker.py").write_text(SILENT.format("TrainingTracker"))
    unsent = project / "charlstm/tracking/runs.py"
    unsent.write_text(unsent.read_text() + "def keep(*_: object) -> None: ...\nsend_or_keep = keep\n")
    train = project / "pipeline/train.py"
    source, count = re.subn(r"train\(\[.*texts\]", "train([]", train.read_text())
    assert count == 1
    train.write_text(source)
    done = subprocess.run([sys.executable, "-c", ALL], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (project / "mlflow.db").exists() and not list(project.glob(".charlstm/*/run.json"))
    assert "epoch 1/" not in done.stderr
    assert outputs(project) == outputs(trained) and len(outputs(project)) > 10


def edit_views(project: Path) -> None:
    views = [module for module in module_names() if is_in(module, VIEWS)]
    assert len(views) > 15
    for view in views:
        edit(project, file_of(view))


def test_an_unfinished_training_is_known_by_what_dvc_declares(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)

    def found() -> str:
        return fingerprint(load()[0])

    first = found()
    edit_views(project)
    (project / "charlstm/model/__pycache__").mkdir(exist_ok=True)
    (project / "charlstm/model/__pycache__/gates.cpython-311.nbi").write_bytes(b"other times")
    edit(project, Path("charlstm/corpus/fetch.py"))
    write_params(project, {"sample.temperatures": [0.5]})
    assert found() == first
    seen = {first}
    for file in ("charlstm/model/gates.py", "charlstm/optimization/optimizers.py", "pipeline/hardware.py"):
        edit(project, Path(file))
        seen.add(found())
    edit(project, Path("Datasets/encoded/SHA256SUMS"))
    seen.add(found())
    for name, value in (("train.learning_rate", 0.5), ("split.document_separator", "\n")):
        write_params(project, {name: value})
        seen.add(found())
    assert len(seen) == 7
