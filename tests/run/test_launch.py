"""`pipeline.launch` before it becomes a launcher, and the end of a stage."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.projects import LAUNCH, PATH, ROOT, captured, write_params
from tests.support.stages import dvc, run_dvc

GUARDED = """
import sys, time
from pipeline.run.stage import errors_reported
with errors_reported() as outcome:
    print("working", flush=True)
    time.sleep(float(sys.argv[1]))
sys.exit(outcome.code)
"""


def test_a_command_that_cannot_start_or_fails(tmp_path: Path) -> None:
    commands = {("no-such-program",): 2, (): 2, ("",): 2, ("sh", "-c", "exit 7"): 7}
    for command, code in commands.items():
        done = captured([*LAUNCH, *command], tmp_path, PYTHONPATH=str(ROOT))
        assert done.returncode == code and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("chosen", "expected"), [({}, "10000 none"), ({"OMP_WAIT_POLICY": "active"}, "none active")]
)
def test_waiting_threads_spin_for_a_short_time_unless_the_user_chose(
    chosen: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    command = [*LAUNCH, "sh", "-c", "echo ${GOMP_SPINCOUNT-none} ${OMP_WAIT_POLICY-none}"]
    done = captured(command, tmp_path, PYTHONPATH=str(ROOT), **chosen)
    assert done.stdout == f"{expected}\n", done.stderr


def test_a_stage_that_fails_names_the_command_that_goes_back(copy: Path) -> None:
    write_params(copy, {"split.val_fraction": 0.2})
    command = ("repro", "--single-item", "split")
    errors = run_dvc(copy, *command, CHARLSTM_TIMEOUT_SECONDS="x").stderr
    pattern = r"removed the outputs of (\w+) before it ran: `(.*)` goes back"
    ((removed, way_back),) = re.findall(pattern, errors)
    assert removed == "split"
    assert captured(["sh", "-c", way_back], copy, PATH=PATH).returncode == 0
    assert "up to date" in dvc(copy, "status")


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
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "working\n"
    return process
