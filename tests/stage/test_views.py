"""Views show results and decide no byte of them: so a changed one leaves models up to date and trainings resumable."""

import re
import shutil
import signal
from pathlib import Path

import pytest
from stages import dvc, run_stage, start_dvc, wait_for

from benchmarks.projects import results, run, start, training_command, write_params
from pipeline.dvc import unfinished
from pipeline.dvc.code import file_of, views
from pipeline.stage.stage import load

CONSOLE = """
class TrainingConsole:
    def on_start(self, *_: object) -> None: ...
    def on_steps(self, *_: object) -> None: ...
    def on_epoch(self, *_: object) -> None: ...
    def show_texts(self, *_: object) -> None: ...
    def close(self) -> None: ...
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
    (project / "pipeline/stage/console.py").write_text(CONSOLE)
    unsent = project / "charlstm/tracking/unsent.py"
    unsent.write_text(unsent.read_text() + "def keep(*_: object) -> None: ...\nsend_or_keep = keep\n")
    train = project / "pipeline/train.py"
    source, count = re.subn(r"train\(\[.*texts\]", "train([]", train.read_text())
    assert count == 1
    train.write_text(source)
    for stage in ("train", "evaluate", "sample"):
        done = run_stage(project, stage)
        assert done.returncode == 0, done.stderr
    assert not (project / "mlflow.db").exists() and not list(project.glob(".charlstm/*/run.json"))
    assert "epoch 1/" not in done.stderr
    assert outputs(project) == outputs(trained) and len(outputs(project)) > 10


def test_dvc_takes_a_changed_view_for_no_change(trained: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(trained, project)
    start_dvc(project)
    dvc(project, "commit", "--force")
    assert "up to date" in dvc(project, "status")
    for view in views():
        edit(project, file_of(view))
    assert "up to date" in dvc(project, "status")
    edit(project, Path("charlstm/optimization/muon.py"))
    assert dvc(project, "status").splitlines()[0] == "train:"


@pytest.mark.slow
def test_an_unfinished_training_resumes_after_a_change_of_a_view(project: Path, tmp_path: Path) -> None:
    write_params(project, {"train.epochs": 3, "train.early_stopping_epochs": None})
    log = tmp_path / "log"
    process = start(project, training_command(1), log)
    wait_for(log, "epoch 1/", process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    for file in ("pipeline/stage/console.py", "charlstm/tracking/runs.py", "pipeline/provenance/provenance.py"):
        edit(project, Path(file))
    assert run(project, training_command(1), log) == 0
    assert "resuming from the checkpoint of step" in log.read_text()
    assert "absent" not in results(project).values()


def test_bytecode_is_in_no_fingerprint(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the times of its source, which differ from one checkout to the next."""
    monkeypatch.chdir(project)
    first = unfinished.fingerprint(*load())
    (project / "charlstm/model/__pycache__").mkdir(exist_ok=True)
    (project / "charlstm/model/__pycache__/gates.cpython-311.pyc").write_bytes(b"other times")
    assert unfinished.fingerprint(*load()) == first


def test_views_are_in_no_fingerprint_and_all_that_decides_is(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    first = unfinished.fingerprint(*load())
    for view in views():
        edit(project, file_of(view))
    assert unfinished.fingerprint(*load()) == first
    for separator in ("\n", None):  # one that is null, as all were once, is in no fingerprint either
        write_params(project, {"split.document_separator": separator})
        assert (unfinished.fingerprint(*load()) == first) == (separator is None)
    for file in ("charlstm/model/gates.py", "charlstm/optimization/optimizers.py", "pipeline/stage/hardware.py"):
        edit(project, Path(file))
        assert unfinished.fingerprint(*load()) != first
        first = unfinished.fingerprint(*load())
