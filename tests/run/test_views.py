"""Views show results and decide no byte of them: so a changed one leaves models up to date and trainings resumable."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.run.stage import load
from pipeline.run.unfinished import fingerprint
from tests.support.layers import VIEWS, file_of, is_in, module_names
from tests.support.projects import write_params

SILENT = """
class {}:
    def __init__(self, *_: object) -> None: ...
    def __enter__(self) -> object:
        return self
    def __exit__(self, *_: object) -> None: ...
    def __getattr__(self, name: str) -> object:
        return lambda *_: None
"""
WATCHERS = {
    "pipeline/run/console.py": ("TrainingConsole", "EpochTexts"),
    "charlstm/tracking/training_record.py": ("TrainingRecord",),
    "charlstm/tracking/sync.py": ("published_while_training", "publish_at_end"),
}
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


def test_without_tracker_console_and_observers_the_bytes_are_the_same(
    project: Path, trained: Path
) -> None:
    (project / "mlflow.db").unlink()
    for file, names in WATCHERS.items():
        with (project / file).open("a") as module:
            module.write("".join(map(SILENT.format, names)))
    done = subprocess.run([sys.executable, "-c", ALL], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (project / "mlflow.db").exists() and not list(
        project.glob(".charlstm/*/origin.json")
    )
    assert "epoch 1/" not in done.stderr
    assert outputs(project) == outputs(trained) and len(outputs(project)) > 10


def edit_views(project: Path) -> None:
    views = [module for module in module_names() if is_in(module, VIEWS)]
    assert len(views) > 15
    for view in views:
        edit(project, file_of(view))


def test_an_unfinished_training_is_known_by_what_dvc_declares(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    for file in (
        "charlstm/model/gates.py",
        "charlstm/optimization/optimizers.py",
        "pipeline/hardware.py",
    ):
        edit(project, Path(file))
        seen.add(found())
    edit(project, Path("Datasets/encoded/SHA256SUMS"))
    seen.add(found())
    for name, value in (("train.learning_rate", 0.5), ("split.document_separator", "\n")):
        write_params(project, {name: value})
        seen.add(found())
    assert len(seen) == 7
