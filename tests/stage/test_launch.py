"""The wrapper around launchers: exit codes, signals, and what is left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.projects import LAUNCH, ROOT
from pipeline.stage.exit_codes import code_of_all

GUARDED = """
import sys, time
from pipeline.stage.stage import guarded
def work():
    print("working", flush=True)
    time.sleep(float(sys.argv[1]))
    return 0
sys.exit(guarded(work))
"""


@pytest.mark.parametrize(
    ("left", "code"),
    [
        ({}, None),
        ({"0-0": "75", "0-1": "75"}, 75),
        ({"0-0": "2", "0-1": "75"}, 2),  # one fails, the other loses contact with it
        ({"0-0": "75", "0-1": "1"}, 1),
        ({"0-0": "2", "1-0": "75", "1-1": "75"}, 75),  # of the last start
        ({"0-0": "2", "1-1": ""}, None),  # killed while it wrote
        ({"0-0": "gone", "0-1": "gone"}, 75),  # see test_crashes.py
        ({"0-0": "gone", "0-1": "0"}, 75),
        ({"0-0": "2", "1-0": "0", "1-1": "0"}, None),
        ({"9-0": "2", "10-0": "75"}, 75),
    ],
)
def test_the_reason_is_found_among_the_codes(tmp_path: Path, left: dict[str, str], code: int | None) -> None:
    for name, text in left.items():
        (tmp_path / name).write_text(text)
    assert code_of_all(tmp_path) == code


@pytest.mark.parametrize("launcher", [["accelerate", "launch"], [sys.executable, "-m", "accelerate.commands.launch"]])
def test_accelerate_has_nothing_to_warn_of(launcher: list[str], tmp_path: Path) -> None:
    """It chooses by itself what the user has not configured, and says nothing of it."""
    (tmp_path / "prints.py").write_text("import os; print(os.environ['ACCELERATE_MIXED_PRECISION'])\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": f"{ROOT}:{tmp_path}", "HF_HOME": str(tmp_path)}
    command = [*LAUNCH, *launcher, "--quiet", "-m", "prints"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "no\n", "")


def test_the_installation_needs_no_activation(tmp_path: Path) -> None:
    """`.venv/bin/dvc` runs `python`, as dvc.yaml says: the Makefile's line makes it the environment's own."""
    (line,) = re.findall(r"\t@(echo .*\\\n.*charlstm-path\.pth)", (ROOT / "Makefile").read_text())
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    script = line.replace("$$", "$").replace("$(VENV)", str(tmp_path / "venv"))
    subprocess.run(["sh", "-c", script], check=True)
    which = [str(tmp_path / "venv/bin/python"), "-c", "import shutil; print(shutil.which('python'))"]
    done = subprocess.run(which, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path / "venv/bin/python")


def test_signals_may_come_while_processes_come_and_go(tmp_path: Path) -> None:
    """The handler looks for processes as the main thread does."""
    many = "trap '' TERM; touch started; for number in $(seq 300); do sleep 0.3 & sleep 0.01; done; wait"
    process = subprocess.Popen(
        [*LAUNCH, "sh", "-c", many],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(tmp_path / "started")
    deadline = time.monotonic() + 2
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.003)
    said = process.communicate(timeout=60)[1]
    assert "Traceback" not in said, said
    assert process.returncode in (0, 75)


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


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
