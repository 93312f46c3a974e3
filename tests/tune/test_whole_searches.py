"""Whole searches, by real trainings: killed, stopped, pruned, and what DVC makes of their winners."""

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
from stages import dvc, start_dvc, wait_for

from benchmarks.projects import PYTHON, kill, start, write_params
from charlstm.files.atomic import sha256
from pipeline.tune.search import read_plan
from pipeline.tune.study import DONE, PRUNED, RUNNING, Study


@pytest.fixture
def real(project: Path) -> Path:
    """In git and DVC. Its own learning rates are so low that any other is better."""
    write_params(
        project,
        {
            "train.epochs": 4,
            "train.early_stopping_epochs": None,
            "train.learning_rate": 1e-5,
            "train.muon.learning_rate": 1e-5,
        },
    )
    (project / "conf/tune.yaml").write_text("train.learning_rate: [0.01, 0.02]\ntrain.muon.learning_rate: [0.03]\n")
    start_dvc(project)
    dvc(project, "git", "add", "--", ".", ":(exclude)Datasets")
    dvc(project, "git", "commit", "-qm", "code")
    return project


TUNE = [*PYTHON, "pipeline.cli", "tune", "--trials", "3"]
MANY = {"CHARLSTM_CHECKPOINT_SECONDS": "0.01", "DVC_NO_ANALYTICS": "true"}


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_and_its_winner_is_trained_to_the_same_weights(
    real: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    process, deadline = start(real, TUNE, log, **MANY), time.monotonic() + 300
    while not list(real.glob(".charlstm/????????????????/step-*/SHA256SUMS")):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    kill(process)
    (study,) = real.glob(".charlstm/tune/*/")
    assert [one.state for one in Study(study).trials().values()] == [RUNNING]
    again = start(real, TUNE, log, **MANY)
    assert again.wait() == 0, log.read_text()
    assert "resuming from the checkpoint of step" in (study / "0/log.txt").read_text()
    trials = Study(study).trials()
    assert len(trials) == 3 and {one.state for one in trials.values()} == {DONE}
    best = min(trials.values(), key=lambda one: one.loss or 0)
    assert best.number != 0
    pattern = (
        r"trial (\d) is lower than trial 0 by (\d\.\d{4}).* on this text\..* train a second seed before you believe it"
    )
    found = re.search(pattern, log.read_text())
    assert found and int(found[1]) == best.number
    chosen_by = (trials[0].loss or 0) - (best.loss or 0)
    assert float(found[2]) == pytest.approx(chosen_by, abs=6e-5)

    with sqlite3.connect(real / "mlflow.db") as store:
        ((parent,),) = store.execute("select run_uuid from tags where key = 'sweep_of' and value = ?", (study.name,))
        children = store.execute(
            "select status from runs join tags using (run_uuid) where key = 'mlflow.parentRunId' and value = ?",
            (parent,),
        ).fetchall()
    assert children == [("FINISHED",)] * 3
    with sqlite3.connect(real / "mlflow.db") as store:
        assert store.execute("select status from runs where run_uuid = ?", (parent,)).fetchall() == [("FINISHED",)]
    artifacts = {file.name for file in (real / "mlartifacts" / parent / "artifacts/tune").iterdir()}
    assert {"tune.html", "history.png", "parallel.png", "values.png"} == artifacts

    for folder in real.glob(".charlstm/????????????????/"):
        shutil.rmtree(folder)  # so that DVC has it trained from its first step
    recipe = subprocess.run([*PYTHON, "pipeline.cli", "recipe", "tuned", "--force"], cwd=real, capture_output=True)
    assert recipe.returncode == 0, recipe.stderr
    dvc(real, "repro", "train", OMP_NUM_THREADS="1")
    assert sha256(real / "artifacts/model/model.safetensors") == sha256(
        study / str(best.number) / "model/model.safetensors"
    )
    metrics = json.loads((real / "artifacts/train/metrics.json").read_text())
    assert metrics["val_nats_per_char"] == best.loss


@pytest.mark.slow
def test_what_dvc_has_trained_is_trial_0_and_not_trained_again(real: Path, tmp_path: Path) -> None:
    dvc(real, "repro", "train", OMP_NUM_THREADS="1")
    model = sha256(real / "artifacts/model/model.safetensors")
    log = tmp_path / "log"
    assert start(real, [*TUNE[:-1], "1"], log, **MANY).wait() == 0, log.read_text()
    (study,) = real.glob(".charlstm/tune/*/")
    said = (study / "0/log.txt").read_text()
    assert "resuming from the checkpoint of step" in said and "epoch 1/4 " not in said
    assert sha256(study / "0/model/model.safetensors") == model
    metrics = json.loads((real / "artifacts/train/metrics.json").read_text())
    assert Study(study).trials()[0].loss == metrics["val_nats_per_char"]
    with sqlite3.connect(real / "mlflow.db") as store:
        runs = store.execute("select run_uuid from tags where key = 'mlflow.parentRunId'").fetchall()
        curve = "select count(*) from metrics where key = 'validation/nats_per_char' and run_uuid = ?"
        curves = [store.execute(curve, run).fetchone() for run in runs]
        models = store.execute("select count(*) from tags where key = 'model_sha256'").fetchone()
    assert curves == [(4,)], "a run of its own, with the whole curve"
    assert models == (2,)


@pytest.mark.slow
def test_a_signal_leaves_a_checkpoint_from_which_the_next_search_goes_on(real: Path, tmp_path: Path) -> None:
    write_params(real, {"train.epochs": 2000, "train.early_stopping_epochs": None})
    log = tmp_path / "log"
    process, deadline = start(real, TUNE, log, **MANY), time.monotonic() + 300
    while not list(real.glob(".charlstm/????????????????/step-*/SHA256SUMS")):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    process.terminate()
    assert process.wait() == 75, log.read_text()
    said = log.read_text()
    assert "trial 0 was stopped; the next `charlstm tune` goes on with it" in said
    assert said.rstrip().endswith("interrupted: stopped as asked; the same command resumes from the last checkpoint")
    (trained,) = real.glob(".charlstm/tune/*/0/log.txt")
    again = start(real, TUNE, log, **MANY)
    wait_for(trained, "resuming from the checkpoint of step", again)
    again.send_signal(signal.SIGINT)
    assert again.wait() == 75, log.read_text()
    (study,) = real.glob(".charlstm/tune/*/")
    assert [one.state for one in Study(study).trials().values()] == [RUNNING]


@pytest.mark.slow
def test_a_real_training_that_is_hopeless_ends_early(real: Path, tmp_path: Path) -> None:
    (real / "conf/tune.yaml").write_text("train.learning_rate: {low: 0.001, high: 0.1, log: true}\n")
    plan = read_plan(real / "conf/tune.yaml")
    study = Study(Path(".charlstm/tune") / plan.identity(), plan.space)
    with study.claim(None) as trial:
        assert trial is not None
        study.is_hopeless(trial.number, 0.5, 0.5)  # better than any text can be learned
        study.end(trial.number, 0.5)
    log = tmp_path / "log"
    assert start(real, [*PYTHON, "pipeline.cli", "tune", "--trials", "2"], log, **MANY).wait() == 0, log.read_text()
    (pruned,) = [one for one in study.trials().values() if one.number == 1]
    assert pruned.state == PRUNED and pruned.loss is not None and pruned.loss > 2
    said = (study.folder / "1/log.txt").read_text()
    assert "epoch 2/4" in said and "epoch 4/4" not in said and "stopped as asked" in said
    assert not (study.folder / "1/model").exists()
    assert not list(real.glob(".charlstm/????????????????/step-*")), "nobody will resume it"
    assert "trial 1: stopped early at" in log.read_text()
