"""Full disks, losses that are not finite, two trainings at once: a clear line, no loss of data."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.support.commands import only_error
from tests.support.disks import BYTES, needs_root, small_disk
from tests.support.projects import (
    PYTHON,
    ROOT,
    captured,
    kill,
    results,
    start,
    torchrun,
    write_params,
)
from tests.support.stages import SHORT, run_here, run_stage, run_stages, wait_for

pytestmark = pytest.mark.slow  # `make torture` runs it
FAULTY = str(ROOT / "tests/support/faulty.py")
LONG = {"train.epochs": 10_000, "train.early_stopping_epochs": None}


def errors(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("ERROR: ")]


def run_faulty(
    project: Path, num_processes: int, *arguments: int
) -> subprocess.CompletedProcess[str]:
    environment = {"OMP_NUM_THREADS": "1", "CHARLSTM_CHECKPOINT_SECONDS": "0.1"}
    launcher = torchrun(num_processes) if num_processes > 1 else [sys.executable]
    command = [*launcher, FAULTY, *map(str, arguments)]
    return captured(command, project, 300, PYTHONPATH=str(project), **environment)


def test_a_loss_that_is_not_finite_on_one_process_stops_all_and_loses_nothing(
    project: Path,
) -> None:
    write_params(project, {**SHORT, "train.epochs": 3})
    # Processes agree on a checkpoint after 100 steps at the latest.
    done = run_faulty(project, 2, 1, 160)
    assert done.returncode != 0
    line = errors(done.stderr)[0]  # process 1 repeats it if process 0 takes long to end
    assert "the loss of process 1 is not finite at step 160 (learning rate 0.00" in line
    assert "gradient norm nan); the last checkpoint is unchanged; lower train.learning_rate" in line
    assert not (project / "artifacts/model").exists()
    assert list(project.glob(".charlstm/*/step-*"))


def test_steps_can_be_skipped_but_not_forever(project: Path) -> None:
    write_params(project, {"train.on_nonfinite": "skip"})
    done = run_faulty(project, 2, 1, 60, 62)
    assert done.returncode == 0, done.stderr
    steps = pd.read_csv(project / "artifacts/train/steps.csv")["step"].tolist()
    assert steps == [step for step in range(1, 86) if step not in (60, 62)]
    write_params(project, {"train.on_nonfinite": "skip", "train.seed": 2})
    (line,) = errors(run_faulty(project, 1, 0, *range(20, 40)).stderr)
    assert "at step 30 " in line and "after 10 skipped steps in a row" in line


def test_a_second_training_is_refused_and_a_dead_one_is_no_hindrance(
    project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_params(project, LONG)
    log = tmp_path / "log"
    first = start(project, [*PYTHON, "pipeline", "train"], log)
    try:
        wait_for(log, "epoch 1/", first)
        assert run_here(project, "train") == 2
        held = f"a training in this checkout is already running in process {first.pid} on "
        assert held in only_error(caplog)
        assert first.poll() is None
    finally:
        kill(first)
    write_params(project, {})
    run_stages(project, "train")


@needs_root
@pytest.mark.parametrize("what", ["checkpoint", "output"])
def test_a_full_disk_costs_nothing_but_time(
    project: Path, trained: Path, tmp_path: Path, what: str
) -> None:
    """The disk is full when a checkpoint is written, or only when the outputs are written."""
    with small_disk(tmp_path / "small") as small:
        full = small / "filler"
        place = project / (".charlstm" if what == "checkpoint" else "artifacts")
        shutil.rmtree(place, ignore_errors=True)  # stage check has written into artifacts
        (small / place.name).mkdir()
        place.symlink_to(small / place.name)
        kept = project / "Datasets/encoded/train.npy"
        before = kept.read_bytes()
        full.write_bytes(bytes(BYTES - 4 * 4096))
        environment = {"CHARLSTM_CHECKPOINT_SECONDS": "0.1"}
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/m"
        done = run_stage(project, "train", **environment)
        assert done.returncode == 2, done.stderr
        (line,) = errors(done.stderr)
        assert "No space left on device" in line
        assert str(place.name) in line
        assert not (project / "artifacts/model").exists()
        assert kept.read_bytes() == before
        full.unlink()
        run_stages(project, "train")
        assert results(project) == results(trained)


def test_processes_that_would_train_different_things_are_refused(
    project: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(project, tmp_path / "other")
    write_params(other, {"train.learning_rate": 0.001})
    each_in_its_own = (
        f'cd "$([ "$RANK" = 0 ] && echo {project} || echo {other})"; '
        # Each process is the first one of its machine.
        f'LOCAL_RANK=0 exec "{sys.executable}" -m pipeline train'
    )
    command = [*torchrun(2, "--no-python"), "sh", "-c", each_in_its_own]
    done = captured(command, project, 120, OMP_NUM_THREADS="1")
    assert done.returncode != 0, done.stderr
    assert "the processes have different parameters, data or code" in errors(done.stderr)[0]
    assert not (project / "artifacts/model").exists()
