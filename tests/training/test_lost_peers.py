"""A process that is lost or fails ends the others, for its reason. This is gloo: NCCL has not been tried.

Processes are started by hand, so that no launcher ends the one that is left.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.projects import PYTHON, ROOT, write_params
from tests.support.servers import free_port
from tests.support.stages import SHORT

FAULTY = str(ROOT / "tests/support/faulty.py")
DIES_FIRST = """
import os
from pipeline import train
from pipeline.run import stage
train._check_same_training = lambda *_: os._exit(1)
stage.run(train.run, [])
"""


LATE = """
import os, time
from charlstm.errors import Interrupted
from charlstm.training import processes
processes.SECONDS_TO_MEET["cpu"] = 60.0
rank = int(os.environ["RANK"])
time.sleep(6 * rank)
both = processes.Processes("fp32", timeout_seconds=2)
began = time.monotonic()
if rank == 0:
    try:
        with both.interrupted_by_lost_peers():
            both.all_equal("")
    except Interrupted:
        print(time.monotonic() - began < 10)
else:
    time.sleep(12)
"""


@pytest.mark.slow
def test_processes_have_long_to_meet_and_then_a_short_time_to_answer() -> None:
    """Here by gloo, whose time-out is set as NCCL's is."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", LATE],
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    )
    assert first.communicate(timeout=90)[0] == "True\n"
    second.communicate(timeout=90)


@pytest.fixture
def project(encoded: Path, tmp_path: Path) -> Path:
    return shutil.copytree(encoded, tmp_path / "project")


def train_together(
    project: Path, commands: Sequence[Sequence[str]], **env: str
) -> list[tuple[int, str]]:
    shared = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            command,
            cwd=project,
            env={
                **os.environ,
                **shared,
                **env,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": "2",
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, command in enumerate(commands)
    ]
    said = [process.communicate(timeout=90)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def test_a_process_that_is_lost_before_training_starts_is_an_interruption(project: Path) -> None:
    commands = [[*PYTHON, "pipeline.train"], [sys.executable, "-c", DIES_FIRST]]
    (code, said), second = train_together(project, commands, CHARLSTM_TIMEOUT_SECONDS="20")
    assert (code, second[0]) == (75, 1), said
    (line,) = [line for line in said.splitlines() if line.startswith("ERROR: ")]
    assert line.startswith(
        "ERROR: interrupted: the same command resumes from the last checkpoint (lost contact with "
    )
    assert "Traceback" not in said


def test_a_process_that_fails_ends_both_and_the_run_has_its_reason(project: Path) -> None:
    """It leaves while the other one is in a collective call."""
    write_params(project, SHORT)
    ended = train_together(
        project, [[sys.executable, FAULTY, "1", "40"]] * 2, FAULT="in the middle of a step"
    )
    assert [code for code, _ in ended] == [2, 2], ended
    assert "in the middle of a step" in ended[0][1]
    with closing(sqlite3.connect(project / "mlflow.db")) as store:
        assert store.execute("select status from runs").fetchall() == [("FAILED",)]
        ((why,),) = store.execute("select value from tags where key = 'ended'").fetchall()
    assert why.endswith("process 1: CharlstmError: in the middle of a step")
