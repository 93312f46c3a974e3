"""Planted faults: each one causes its own lines and no others."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.commands.doctor import check_gpu, check_python, check_tracker, findings
from tests.support.commands import Run
from tests.support.projects import LAUNCH, PATH, ROOT, captured, write_params

REQUIRED = """[project]
dependencies = ["numpy>=1", "no-such-package>=2", "psutil>=1,<2"]
"""
LOCK = "<<<<<<< HEAD\nstages: {}\n=======\n"


@pytest.fixture
def project(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("PATH", PATH)
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    for name in ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("user.name", "user.email"):
        subprocess.run(["git", "config", name, "a@b"], check=True)
    write_params(copy, {"evaluate.published.losses": []})
    return copy


def test_nothing_is_wrong_and_unfinished_trainings_are_removed_on_request(
    project: Path, run: Run
) -> None:
    folder = project / ".charlstm" / ("5" * 16)
    folder.mkdir(parents=True)
    code, out, err = run("doctor")
    assert (code, err) == (0, "") and folder.exists()
    assert out.endswith("nothing is wrong\n")
    assert run("doctor", "--clean")[0] == 0 and not folder.exists()


def assert_lines(run: Run, beginnings: list[str]) -> None:
    code, _, err = run("doctor")
    lines = err.splitlines()
    assert code == 2 and len(lines) == len(beginnings), lines
    for line, beginning in zip(lines, beginnings, strict=True):
        assert line.startswith(beginning)


def test_each_fault_is_a_line(project: Path, run: Run) -> None:
    write_params(project, {"train.epochs": "two", "model.hidden_size": -1})
    (project / "pyproject.toml").write_text(REQUIRED)
    (project / "dvc.lock").write_text(LOCK)
    (project / "mlflow.db").write_text("no database" * 1000)
    subprocess.run(["git", "config", "--unset", "user.name"], check=True)
    expected = [
        "ERROR: dvc.lock is damaged, maybe by a merge: ",
        "ERROR: params.yaml: model.hidden_size should be greater than 0, got -1; train.epochs ",
        "ERROR: versions: no-such-package>=2 is not installed: run `pip install",
        "WARNING: git: user.name is not set",
        "WARNING: tracker: MLflow at sqlite:///",
        "WARNING: versions: expected psutil<2,>=1, found ",
    ]
    assert_lines(run, expected)


def test_files_of_the_user_are_checked(project: Path, run: Run) -> None:
    (project / "text.txt").unlink()
    (project / "artifacts/model/notes.txt").touch()
    expected = [
        "ERROR: text.txt: the file named in download.watch is missing",
        "WARNING: artifacts/model/notes.txt: no stage wrote it",
    ]
    assert_lines(run, expected)


def test_the_python_of_the_stages(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{project}/bin")
    (absent,) = findings(check_python)
    assert absent.startswith("ERROR: python: expected a `python` in PATH for DVC's stages")
    (project / "bin/python").write_text("#!/bin/sh\necho /usr\n")
    (project / "bin/python").chmod(0o755)
    (other,) = findings(check_python)
    assert other.startswith(f"WARNING: python: DVC's stages run {project}/bin/python, from another")


def test_a_server_that_says_nothing_is_given_up_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Port 9 of a network reserved for documentation (RFC 5737) never answers."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@192.0.2.1:9")
    started = time.monotonic()
    (line,) = findings(check_tracker)
    assert time.monotonic() - started < 30 and "secret" not in line
    assert line.startswith("WARNING: tracker: MLflow at http://192.0.2.1:9: ")


def test_a_gpu_that_this_torch_cannot_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this torch can use one")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert list(check_gpu(tmp_path)) == []
    (tmp_path / "nvidia0").touch()
    (line,) = check_gpu(tmp_path)
    assert line.startswith("WARNING: gpu: torch ") and "cannot use the GPU" in line


def test_the_launcher_refuses_bad_input_before_any_process_starts(project: Path) -> None:
    write_params(project, {"train.context_len": 10_000})
    program = [sys.executable, "-c", "raise SystemExit('started')"]
    command = [*LAUNCH, *program, "-m", "pipeline", "train"]
    done = captured(command, project, 60, PYTHONPATH=str(ROOT))
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done
    assert "the training part has 5400 characters, but one step needs more than " in done.stderr
