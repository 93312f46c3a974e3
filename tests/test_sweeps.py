"""`charlstm sweep`: the runs of a queue, the best first."""

import shutil
from pathlib import Path

import pytest
from matplotlib.image import imread
from outboxes import outbox
from stages import dvc

from charlstm.errors import LineageError
from charlstm.tracking.client import Store
from charlstm.tracking.measurements import Measurement
from charlstm.tracking.runs import TrainingRecord, attach
from charlstm.training.history import EpochRow, StepRow, TextRow, table
from pipeline.review.sweeps import read_sweep, show_sweep

LOSSES = {"0.01": 1.52, "0.3": 1.49, "1e-4": 1.61}


@pytest.fixture
def project(recorded: Path, blank_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With three trainings of a queue that began from its HEAD, and one that failed."""
    shutil.copy(blank_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tests")
    monkeypatch.chdir(recorded)
    store = Store(uri, "tests", (tmp_path / "artifacts").as_uri())
    tables = table([], EpochRow._fields), table([], StepRow._fields), table([], TextRow._fields)
    tags = {"sweep": dvc(recorded, "git", "rev-parse", "HEAD").strip()}
    for number, (rate, loss) in enumerate([*LOSSES.items(), ("9", None)]):
        params: dict[str, str | int | float] = {
            "train.learning_rate": rate,
            "train.seed": 1,
            "sample.seeds": f"[{number}]",
        }
        record = TrainingRecord(params, {**tags, "dvc_exp_name": f"number-{number}"}, *tables, 0)
        run = attach(outbox(tmp_path / "spools", store), f"m0del{number}", record)
        run.log_metrics([Measurement("validation/nats_per_char", 1.0)])
        if loss is not None:
            run.log_metrics([Measurement("stateful/nats_per_char", loss)])
        run.close()
    return tmp_path


def test_the_best_is_first_and_only_what_differs_is_shown(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = read_sweep("HEAD")
    assert found.protocol == "stateful" and found.varied == ["train.learning_rate"]
    assert found.losses("stateful") == sorted(LOSSES.values())
    assert [name for name, _ in found.runs] == ["number-1", "number-0", "number-2"]
    show_sweep("HEAD", project / "sweep.png")
    lines = capsys.readouterr().out.splitlines()
    (best,) = [line for line in lines if "1.4900" in line]
    assert "number-1" in best and "0.3" in best
    height, width, _ = imread(project / "sweep.png").shape
    assert height > 200 and width > 200


def test_a_commit_without_a_sweep_is_named(project: Path) -> None:
    for revision, message in (("HEAD~1", "found 0 of them in MLflow"), ("nothing", "expected a commit")):
        with pytest.raises(LineageError, match=message):
            show_sweep(revision, project / "sweep.png")
    assert not (project / "sweep.png").exists()
