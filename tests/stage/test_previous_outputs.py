"""A stage that fails leaves what it had made before: DVC has taken it away, and it is put back, byte by byte."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from stages import dvc, run_dvc, wait_for

from benchmarks.projects import PYTHON, Override, start, write_params
from pipeline.dvc.previous_outputs import DVC_STAGE, LAUNCHED_STAGE, with_previous_outputs
from pipeline.dvc.record import recorded_outputs
from pipeline.provenance.hashes import md5


def outputs(project: Path) -> dict[str, bytes]:
    files = [file for name in ("Datasets", "artifacts") for file in (project / name).rglob("*") if file.is_file()]
    return {str(file.relative_to(project)): file.read_bytes() for file in files}


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    """DVC's own lines begin with `ERROR: failed to reproduce`."""
    lines = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("ERROR: ")]
    return [line for line in lines if not line.startswith("ERROR: failed to reproduce")]


def remove(project: Path, stage: str) -> None:
    """As DVC does before it runs a stage."""
    for path in recorded_outputs(stage):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("stage", ["train", "evaluate", "sample", "encode"])
def test_a_stage_that_fails_has_its_outputs_back(
    copy: Path, stage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(DVC_STAGE, stage)
    before = outputs(copy)
    remove(copy, stage)
    assert outputs(copy) != before
    assert with_previous_outputs(lambda: 2) == 2
    assert outputs(copy) == before
    assert f"the previous outputs of {stage} are back in place: " in caplog.text


def test_metrics_come_from_the_run_cache_or_from_git(
    copy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(DVC_STAGE, "train")
    metrics = Path("artifacts/train/metrics.json")
    committed = metrics.read_bytes()
    metrics.write_text('{"another": 1}\n')
    dvc(copy, "commit", "--force", "train")
    before, digest = outputs(copy), md5(metrics)
    remove(copy, "train")
    assert with_previous_outputs(lambda: 75) == 75
    assert outputs(copy) == before

    Path(f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}").unlink()
    remove(copy, "train")
    assert with_previous_outputs(lambda: 2) == 2
    assert outputs(copy) == {name: content for name, content in before.items() if name != str(metrics)}
    assert f"neither DVC's cache nor git has what train had made before: {metrics}" in caplog.text

    dvc(copy, "git", "checkout", "dvc.lock")
    shutil.rmtree(".dvc/cache/files/md5")  # as after `dvc pull`, which brings no metrics
    with_previous_outputs(lambda: 2)
    assert metrics.read_bytes() == committed


def test_what_a_stage_has_written_is_not_replaced(
    copy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(DVC_STAGE, "train")
    remove(copy, "train")
    Path("artifacts/train/metrics.json").write_text("{}")
    before = outputs(copy)
    assert with_previous_outputs(lambda: 2) == 2
    assert outputs(copy) == before
    assert "stay away, since it has begun to write: artifacts/train/metrics.json" in caplog.text


def test_a_defect_puts_them_back_too_and_without_dvc_nothing_is_done(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect() -> int:
        raise RuntimeError("a defect")

    before = outputs(copy)
    remove(copy, "sample")
    gone = outputs(copy)
    assert with_previous_outputs(lambda: 2) == 2  # DVC did not run it
    monkeypatch.setenv(DVC_STAGE, "sample")
    monkeypatch.setenv("CHARLSTM_EXIT_CODES", "/tmp")
    monkeypatch.setenv(LAUNCHED_STAGE, "sample")  # one of several processes
    assert with_previous_outputs(lambda: 2) == 2 and outputs(copy) == gone
    monkeypatch.setenv(LAUNCHED_STAGE, "")  # below a launcher of DVC itself
    with pytest.raises(RuntimeError, match="a defect"):
        with_previous_outputs(defect)
    assert outputs(copy) == before


@pytest.mark.parametrize("stage", ["evaluate", "sample"])
def test_a_stage_that_is_stopped_while_it_imports_has_its_outputs_back(copy: Path, stage: str, tmp_path: Path) -> None:
    slow, log = tmp_path / "slow/pandas.py", tmp_path / "log"
    slow.parent.mkdir()
    slow.write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    before = outputs(copy)
    remove(copy, stage)
    process = start(copy, [*PYTHON, f"pipeline.{stage}"], log, DVC_STAGE=stage, PYTHONPATH=str(slow.parent))
    wait_for(log, "importing", process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 75
    assert outputs(copy) == before
    assert "ERROR: interrupted\n" in log.read_text() and "Traceback" not in log.read_text()


CASES: dict[str, tuple[Override, str, str]] = {
    "epochs": ({"train.epochs": "two"}, "train.epochs should be a valid integer", "train"),
    "prompts": ({"sample.prompts": ["\n", "☃"], "train.seed": 2}, "sample.prompts[1]: ", "train"),
    "hidden_size": ({"model.hidden_size": 65_536}, "the model does not fit into memory", "train"),
    "prompts alone": ({"sample.prompts": ["def ", "☃"]}, "sample.prompts[1]: ", "sample"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_mistake_in_parameters_loses_nothing(copy: Path, name: str) -> None:
    override, line, stage = CASES[name]
    dvc(copy, "config", "hydra.enabled", "false")
    dvc(copy, "repro")  # the record is complete: nothing is out of date
    before, params = outputs(copy), Path("params.yaml").read_text()
    write_params(copy, override)

    done = run_dvc(copy, "repro")

    assert done.returncode != 0
    said = [one for one in errors(done) if "disk: " not in one]  # where it is too small for such a model, too
    assert len(said) == 1 and line in said[0] and outputs(copy) == before
    status = json.loads(dvc(copy, "status", "--json"))
    changed = [set(one) for entry in status[stage] for one in entry.values() if isinstance(one, dict)]
    assert set(status) <= {"train", "evaluate", "sample"} and changed == [{"params.yaml"}], status
    Path("params.yaml").write_text(params)
    assert "up to date" in dvc(copy, "status") and "Running stage" not in dvc(copy, "repro")


@pytest.mark.slow
def test_an_experiment_with_a_mistake_loses_nothing(copy: Path) -> None:
    dvc(copy, "config", "hydra.enabled", "false")
    dvc(copy, "repro")
    before = outputs(copy)
    done = run_dvc(copy, "exp", "run", "-S", "train.epochs=two")
    assert done.returncode != 0 and len(errors(done)) == 1, done.stderr
    assert outputs(copy) == before
    assert "epochs: two" in Path("params.yaml").read_text()  # as DVC leaves it
    dvc(copy, "git", "checkout", "params.yaml")
    assert "up to date" in dvc(copy, "status")


@pytest.mark.slow
def test_an_interrupted_training_has_the_previous_model_back_and_is_resumed(copy: Path, tmp_path: Path) -> None:
    dvc(copy, "config", "hydra.enabled", "false")
    dvc(copy, "repro")
    before = outputs(copy)
    write_params(copy, {"train.epochs": 4, "train.early_stopping_epochs": None})
    log = tmp_path / "log"
    process = start(copy, ["dvc", "repro", "train"], log, PATH=os.environ["PATH"])
    wait_for(log, "epoch 1/", process)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=120)
    deadline = time.monotonic() + 60  # DVC is gone, and the launcher saves and puts them back
    while "are back in place" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert outputs(copy) == before
    assert "resuming from the checkpoint of step" in run_dvc(copy, "repro", "train").stderr
