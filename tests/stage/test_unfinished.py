"""What is kept of a training: until DVC has recorded its outcome, and no longer."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from stages import dvc, run_stages

from benchmarks.projects import ROOT, results, write_params
from charlstm.errors import Interrupted
from charlstm.files.lock import exclusive
from pipeline.dvc import unfinished
from pipeline.dvc.unfinished import FINISHED, start_or_resume
from pipeline.stage.tracking_store import STATE_FOLDER

OTHER = {"train.learning_rate": 0.003}


@pytest.fixture
def project(encoded: Path, tmp_path: Path) -> Path:
    """Of a tiny training, under DVC."""
    folder = tmp_path / "project"
    shutil.copytree(encoded, folder)
    dvc(folder, "init", "--no-scm", "-q")
    return folder


def train(project: Path, capsys: pytest.CaptureFixture[str]) -> bool:
    """Start the stage as DVC does; whether it took a step. A replay restores the last checkpoint and takes none."""
    for output in ("artifacts/model", "artifacts/train"):
        shutil.rmtree(project / output, ignore_errors=True)
    capsys.readouterr()
    run_stages(project, "train")
    said = capsys.readouterr().err
    assert ("resuming from the checkpoint of step 85 of 85" in said) != ("epoch 1/1 " in said), said
    return "epoch 1/1 " in said


def test_an_outcome_that_dvc_never_recorded_is_not_trained_again(
    project: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a kill between the outputs and `dvc.lock`."""
    assert train(project, capsys)
    write_params(project, OTHER)
    assert train(project, capsys)
    write_params(project, {})
    assert not train(project, capsys)
    assert not train(project, capsys)
    assert results(project) == results(trained)


def test_a_recorded_one_is_trained_again_when_it_is_wanted_again(
    project: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train A, train B, `dvc repro --force` A: `dvc.lock` names B."""
    assert train(project, capsys)
    dvc(project, "commit", "-f", "train")
    write_params(project, OTHER)
    assert train(project, capsys)
    dvc(project, "commit", "-f", "train")
    write_params(project, {})
    assert train(project, capsys)
    assert results(project) == results(trained)


WORKER = """
import os, sys, time
from pathlib import Path
from pipeline.dvc.unfinished import start_or_resume
name, root = sys.argv[1], Path(os.environ["DVC_ROOT"]) / ".charlstm"
while len(list(Path().resolve().parent.glob("*/ready"))) < 3:
    Path("ready").touch()
for number in range(20):
    for old in range(8):
        folder = root / f"{name}{number:08x}{old:07x}"
        folder.mkdir(parents=True)
        (folder / "finished.json").write_text('{"output_md5": "none"}')
        os.utime(folder, (old, old))
    with start_or_resume(f"mine-{name}") as work:
        assert work.folder.is_dir()
"""


def test_what_another_experiment_has_just_finished_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC may have its outputs when the one that waited begins: that is no `dvc repro --force`."""
    monkeypatch.setattr(unfinished, "project_root", lambda: tmp_path)  # in a copy of the project, as a queue has it
    monkeypatch.setattr(unfinished, "_is_recorded", lambda folder: (folder / FINISHED).exists())
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    folder, is_over = tmp_path / STATE_FOLDER / "abc", threading.Event()

    def first() -> None:
        with exclusive(folder, "this training"):
            held.set()
            is_over.wait(10)
            folder.mkdir()
            (folder / FINISHED).write_text("{}")

    held = threading.Event()
    training = threading.Thread(target=first)
    training.start()
    held.wait(10)
    threading.Timer(0.5, is_over.set).start()
    with start_or_resume("abc") as work:
        assert not work.is_anew and (folder / FINISHED).exists()
    training.join()
    with start_or_resume("abc") as work:
        assert work.is_anew


def test_who_waits_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unfinished, "project_root", lambda: tmp_path)
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    folder = tmp_path / STATE_FOLDER / "abc"
    stopped = pytest.raises(Interrupted, match="while it waited")
    with exclusive(folder, "this training"), stopped, start_or_resume("abc", should_stop=lambda: True):
        pass


def test_workers_that_tidy_up_at_the_same_time_do_not_trip_over_each_other(tmp_path: Path) -> None:
    """As in `dvc exp run --queue` with several jobs: each in its own copy, the state in the main checkout."""
    workers = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        environment = {**os.environ, "DVC_ROOT": str(tmp_path / "main"), "PYTHONPATH": str(ROOT)}
        workers.append(
            subprocess.Popen(
                [sys.executable, "-c", WORKER, name],
                cwd=tmp_path / name,
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], said
    assert len(list((tmp_path / "main/.charlstm").glob("?" * 16))) < 100  # of 480


def state_folder(root: Path, name: str, days: float, *, is_finished: bool = False) -> Path:
    folder = root / ".charlstm" / name
    (folder / "step-000000001").mkdir(parents=True)
    if is_finished:
        (folder / FINISHED).write_text(json.dumps({"output_md5": name}))
    os.utime(folder, (time.time() - days * 24 * 3600,) * 2)
    return folder


def test_what_is_kept_of_other_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that DVC has not recorded, for a week, and what is in use."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(unfinished, "cached", lambda md5: tmp_path if set(md5) <= {"a", "c"} else None)
    recorded, unsent = (state_folder(tmp_path, name * 16, 0, is_finished=True) for name in "ac")
    (unsent / "run.json").write_text("{}")  # its run is not in MLflow yet
    finished, young = state_folder(tmp_path, "b" * 16, 6, is_finished=True), state_folder(tmp_path, "6" * 16, 6)
    old, held = state_folder(tmp_path, "8" * 16, 8), state_folder(tmp_path, "9" * 16, 9)
    elsewhere = state_folder(tmp_path, "tracking", 99)
    with exclusive(held, "another worker's training"), start_or_resume("mine") as work:
        assert all(folder.exists() for folder in [finished, unsent, young, held, elsewhere, work.folder])
        assert not old.exists() and not recorded.exists()
