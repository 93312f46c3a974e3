"""The tie between a model and its run is content: it holds however DVC made, restored or fetched the model."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stages import dvc, run_stage, wait_for

from benchmarks.projects import run, start, training_command, write_params
from pipeline.new.initial import InitialModel

pytestmark = pytest.mark.slow
Json = dict[str, Any]
CHARLSTM = [sys.executable, "-m", "pipeline.cli"]


@pytest.fixture
def project(recorded: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(recorded, folder, symlinks=True)
    dvc(folder, "config", "hydra.enabled", "false")
    dvc(folder, "git", "commit", "-qam", "tiny parameters, not composed")
    return folder


def trace(project: Path, *arguments: str, **env: str) -> list[Json]:
    command = [*CHARLSTM, "trace", *arguments, "--json"]
    done = subprocess.run(command, cwd=project, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["traces"])


def pulled_by_another(project: Path, folder: Path) -> Path:
    """A second clone, whose files came by a remote."""
    other = folder / "other"
    dvc(project, "git", "clone", "-q", str(project), str(other))
    for clone, way in ((project, "push"), (other, "pull")):
        dvc(clone, "remote", "add", "-d", "backup", str(folder / "remote"))
        dvc(clone, way)
    return other


def sha256_of_model(found: Json) -> str:
    rows = [row for link in found["chain"] if link["link"] == "model" for row in link["files"]]
    return next(str(row["sha256"]) for row in rows if row["path"].endswith(".safetensors"))


def test_experiments_in_a_temporary_folder_and_from_a_queue(project: Path, tmp_path: Path) -> None:
    baseline = dvc(project, "git", "rev-parse", "HEAD").strip()
    dvc(project, "exp", "run", "--temp", "-S", "train.learning_rate=0.02", "-n", "faster")
    for seed in (2, 3):
        dvc(project, "exp", "run", "--queue", "-S", f"train.seed={seed}", "-n", f"seed-{seed}")
    dvc(project, "queue", "start", "--jobs", "2")
    dvc(project, "queue", "logs", "--follow", "seed-2")
    dvc(project, "queue", "logs", "--follow", "seed-3")
    changed = {"faster": ("train.learning_rate", "0.02"), "seed-2": ("train.seed", "2"), "seed-3": ("train.seed", "3")}
    models = set()
    for name, (param, value) in changed.items():
        (found,) = trace(project, name, "--as", "rev")
        assert found["run"]["name"].startswith(f"{name} · ") and found["dvc"]["experiment"] == name
        assert found["dvc"]["baseline"] == found["code"]["commit"] == baseline
        assert found["params"][param] == value
        (revision,) = found["dvc"]["revisions"]
        assert (revision["experiment"], revision["baseline"]) == (name, baseline)
        models.add(sha256_of_model(found))
    assert len(models) == 3

    # DVC restores the model of an experiment from its run cache: no training, and still the experiment's run.
    write_params(project, {"train.learning_rate": 0.02})
    assert "epoch" not in dvc(project, "repro")
    (restored,) = trace(project, "artifacts/model")
    assert restored["run"]["name"].startswith("faster · ")

    # Somebody else pulls it, with another server: the run is made from files, and leads to the same revision.
    dvc(project, "git", "commit", "-qam", "faster")
    other = pulled_by_another(project, tmp_path)
    server = f"sqlite:///{tmp_path}/elsewhere.db"
    done = run_stage(other, "evaluate", MLFLOW_TRACKING_URI=server)
    assert done.returncode == 0, done.stderr
    (found,) = trace(other, "artifacts/model", MLFLOW_TRACKING_URI=server)
    assert found["run"]["made_from"] == "files" and found["hardware"] == {}
    assert sha256_of_model(found) == sha256_of_model(restored)
    assert [revision["subject"] for revision in found["dvc"]["revisions"]] == ["faster"]


def test_a_resumed_training_is_one_run(project: Path, tmp_path: Path) -> None:
    write_params(project, {"train.epochs": 3, "train.early_stopping_epochs": None})
    log = tmp_path / "log"
    process = start(project, training_command(1), log)
    wait_for(log, "epoch 1/", process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 75
    assert run(project, training_command(1), log) == 0
    assert "resuming from the checkpoint of step" in log.read_text()
    (found,) = trace(project, "artifacts/model")
    assert found["run"]["status"] == "FINISHED" and found["code"]["dirty"] == "yes"
    assert len(trace(project, "Datasets/shakespear.txt")) == 2  # this one, and the first one's


def test_a_training_begins_from_a_model_that_goes_with_it(project: Path, tmp_path: Path) -> None:
    with contextlib.chdir(project):
        initial = InitialModel.load("artifacts/model", Path("artifacts/model"))
        initial.keep()
    write_params(project, {"train.initial": str(initial.target), "train.seed": 2})
    dvc(project, "git", "add", "-A")
    dvc(project, "git", "commit", "-qm", "begin from the first model")
    dvc(project, "repro")
    dvc(project, "git", "commit", "-qam", "begun from the first model")
    assert "Data and pipelines are up to date" in dvc(project, "repro")

    (found,) = trace(project, "HEAD")
    (link,) = [link for link in found["chain"] if link["link"] == "initial"]
    assert initial.trained.sha256 in {row["sha256"] for row in link["files"]} != {sha256_of_model(found)}
    shown = subprocess.run([*CHARLSTM, "trace", "HEAD"], cwd=project, capture_output=True, text=True).stdout
    assert f"begun from model {initial.trained.sha256}" in shown

    # The model is shared with all else, also where nobody has what it was made of.
    other = pulled_by_another(project, tmp_path)
    assert "Data and pipelines are up to date" in dvc(other, "repro")
    shutil.rmtree(project / initial.target)
    done = subprocess.run([*CHARLSTM, "reproduce", "HEAD"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
