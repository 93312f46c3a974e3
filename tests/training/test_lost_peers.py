"""A process that is gone before the first step is noticed like one that goes later: exit code 75, one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from servers import free_port

from benchmarks.projects import PYTHON

DIES_FIRST = """
import os
from pipeline import train
from pipeline.stage import stage
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


def test_a_process_that_is_lost_before_training_starts_is_an_interruption(encoded: Path, tmp_path: Path) -> None:
    """Started by hand, so that no launcher ends the one that is left. This is gloo: NCCL has not been tried."""
    project = tmp_path / "project"
    shutil.copytree(encoded, project)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    shared["CHARLSTM_TIMEOUT_SECONDS"] = "20"
    commands = {"0": [*PYTHON, "pipeline.train"], "1": [sys.executable, "-c", DIES_FIRST]}
    first, second = (
        subprocess.Popen(
            command,
            cwd=project,
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, command in commands.items()
    )
    said = first.communicate(timeout=90)[1]
    second.communicate(timeout=90)
    assert second.returncode == 1
    assert first.returncode == 75, said
    (line,) = [line for line in said.splitlines() if line.startswith("ERROR: ")]
    assert line.startswith("ERROR: interrupted: lost contact with another process (")
    assert "Traceback" not in said
