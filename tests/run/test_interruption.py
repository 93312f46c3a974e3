"""Signals that stop a process, and the death of the process that started it."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from pipeline.run.interruption import LAUNCHER
from tests.support.projects import ROOT, captured

STAGE = """
import time
from pipeline.run.interruption import stop_with_parent
from pipeline.run.stage import errors_reported
with errors_reported():
    stop_with_parent()
    print("working", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a process")
@pytest.mark.parametrize("variable", ["DVC_STAGE", "TORCHELASTIC_RUN_ID"])
def test_a_stage_ends_when_what_has_started_it_dies(variable: str) -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STAGE!r}])"
    starter = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, variable: "train"},
        stdout=subprocess.PIPE,
    )
    assert starter.stdout is not None and starter.stdout.readline() == b"working\n"
    (stage,) = psutil.Process(starter.pid).children()
    starter.send_signal(signal.SIGKILL)
    stage.wait(timeout=30)
    starter.communicate()


def test_a_launcher_that_is_dead_already_is_noticed() -> None:
    """The dead process may still have its number, or another process may have it."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    done = captured([sys.executable, "-c", STAGE], ROOT, 30, **{LAUNCHER: str(dead.pid)})
    dead.wait()
    assert (done.stdout, done.stderr) == ("", "ERROR: interrupted\n")
