"""What `pipeline.launch` does before it becomes a launcher, and how a stage ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stages import run_dvc

from benchmarks.projects import LAUNCH, ROOT, write_params

GUARDED = """
import sys, time
from pipeline.run.stage import guarded
def work():
    print("working", flush=True)
    time.sleep(float(sys.argv[1]))
    return 0
sys.exit(guarded(work))
"""


def test_a_command_that_cannot_start_or_fails(tmp_path: Path) -> None:
    for command, code in ((["no-such-program"], 2), ([], 2), ([""], 2), (["sh", "-c", "exit 7"], 7)):
        done = subprocess.run(
            [*LAUNCH, *command],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == code and "Traceback" not in done.stderr


@pytest.mark.parametrize(("chosen", "expected"), [({}, "10000 none"), ({"OMP_WAIT_POLICY": "active"}, "none active")])
def test_waiting_threads_spin_for_a_short_time_unless_the_user_chose(
    chosen: dict[str, str], expected: str, tmp_path: Path
) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [*LAUNCH, "sh", "-c", "echo ${GOMP_SPINCOUNT-none} ${OMP_WAIT_POLICY-none}"],
        cwd=tmp_path, env={**kept, **chosen, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == f"{expected}\n", done.stderr


@pytest.mark.parametrize("bad", ["split.val_fraction", pytest.param("train.learning_rate", marks=pytest.mark.slow)])
def test_a_stage_that_fails_names_the_command_that_restores_its_outputs(copy: Path, bad: str) -> None:
    stage, output = ("split", "Datasets/split") if "split" in bad else ("train", "artifacts/model")
    write_params(copy, {bad: 1e30})
    done = run_dvc(copy, "repro", stage)
    assert done.returncode != 0 and not Path(output).exists()
    by_git = "git checkout artifacts/train; " if stage == "train" else ""
    said = f"DVC removed the previous outputs of {stage} before it ran: `{by_git}dvc checkout {stage}` restores them"
    assert said in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stage_ends_politely(number: signal.Signals) -> None:
    with guarded_work(60) as process:
        process.send_signal(number)
        assert process.communicate(timeout=30)[1] == "ERROR: interrupted\n"
        assert process.returncode == 75


def test_under_nohup_a_stage_outlives_its_terminal() -> None:
    with guarded_work(1, "nohup") as process:
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=30) == 0


def guarded_work(seconds: float, *before: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*before, sys.executable, "-c", GUARDED, str(seconds)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "working\n"
    return process
