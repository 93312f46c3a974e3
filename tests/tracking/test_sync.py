"""`charlstm sync` after a training without a server, and metrics of the machine."""

from contextlib import chdir
from pathlib import Path

import pytest

from tests.support.commands import Run
from tests.support.projects import write_params
from tests.support.stages import run_stage, run_stages
from tests.support.stores import query


def test_what_a_server_has_missed_is_sent_later(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, run: Run
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run_stages(project, "train")
    assert caplog.text.count("nothing is lost: the next stage or `charlstm sync` will send") == 1
    with chdir(project):
        code, out, error = run("sync")
        assert code == 2 and "dvc.lock records no outputs" in out
        (line,) = [line for line in error.splitlines() if line.startswith("ERROR: ")]
        assert line.startswith("ERROR: MLflow at http://127") and "Connection refused" in line
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        assert run("sync")[1].endswith("\nsent to MLflow: 1\n")
        assert run("sync")[1].endswith("\nsent to MLflow: 0\n")
    assert query(project, "select status from runs") == [("FINISHED",)]
    points = "select count(*) from metrics where key = 'loss/training'"
    ((num_points,),) = query(project, points)
    assert num_points == len((project / "artifacts/train/steps.csv").read_text().splitlines()) - 1


@pytest.mark.slow
def test_a_run_says_how_busy_its_machine_is(project: Path) -> None:
    long = {"train.epochs": 60, "train.early_stopping_epochs": None, "model.hidden_size": 64}
    write_params(project, long)
    done = run_stage(
        project, "train", MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL="1", OMP_NUM_THREADS="1"
    )
    assert done.returncode == 0, done.stderr
    assert query(project, "select status from runs") == [("FINISHED",)]
    keys = "select distinct key from metrics where key like 'system/%'"
    found = {key for (key,) in query(project, keys)}
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= found
    assert len(list(project.glob(".charlstm/*/published"))) == 1
