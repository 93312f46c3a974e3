"""A lost or failed process ends the others. This is tested with gloo, and untested with NCCL.

No launcher starts the processes, so that no launcher ends the remaining process.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.projects import PYTHON, ROOT, write_params
from tests.support.servers import free_port
from tests.support.stages import SHORT
from tests.support.stores import query

FAULTY = str(ROOT / "tests/support/faulty.py")
DIES_FIRST = """
import os
from pipeline import train
from pipeline.run.stage import main
train._shared_fingerprint = lambda *_: os._exit(1)
main(["train"])
"""


SILENT = """
import os, time
import torch
from charlstm.errors import Interrupted
from charlstm.training.processes import Processes
both = Processes("fp32", timeout_seconds=2)
if both.rank == 1:
    time.sleep(4)
    os._exit(0)
try:
    with both.interrupted_by_lost_peers():
        both.gather(torch.zeros(1))
except Interrupted as error:
    print(error, flush=True)
    os._exit(0)
"""


def together(
    commands: Sequence[Sequence[str]], folder: Path, **env: str
) -> list["subprocess.Popen[str]"]:
    """Start a process for each command. They form one training."""
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    shared |= {"OMP_NUM_THREADS": "1", "LOCAL_WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **shared, **env, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, command in zip("01", commands, strict=True)
    ]


def test_a_wait_ends_if_another_process_is_silent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SILENT]
    first, second = together([command] * 2, tmp_path, PYTHONPATH=str(ROOT))
    assert first.communicate(timeout=30)[0].startswith("cannot reach another process (")
    second.communicate(timeout=30)


def train_together(
    project: Path, commands: Sequence[Sequence[str]], **env: str
) -> list[tuple[int, str]]:
    processes = together(commands, project, **env)
    said = [process.communicate(timeout=90)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def test_a_process_that_is_lost_before_training_starts_is_an_interruption(project: Path) -> None:
    commands = [[*PYTHON, "pipeline", "train"], [sys.executable, "-c", DIES_FIRST]]
    (code, said), second = train_together(project, commands, CHARLSTM_TIMEOUT_SECONDS="20")
    assert (code, second[0]) == (75, 1), said
    (line,) = [line for line in said.splitlines() if line.startswith("ERROR: ")]
    interrupted = "ERROR: interrupted: the same command resumes from the last checkpoint"
    assert line.startswith(f"{interrupted} (cannot reach another ")
    assert "Traceback" not in said


def test_a_process_that_fails_ends_both_and_the_run_has_its_reason(project: Path) -> None:
    """The process fails while the other is in a collective call."""
    write_params(project, SHORT)
    commands = [[sys.executable, FAULTY, "1"]] * 2
    ended = train_together(project, commands)
    assert [code for code, _ in ended] == [2, 2], ended
    assert "ERROR" not in ended[0][1]
    assert "ERROR: process 1: a defect on purpose" in ended[1][1]
    assert query(project, "select status from runs") == [("FAILED",)]
    ((why,),) = query(project, "select value from tags where key = 'ended'")
    assert why.endswith("process 1: CharlstmError: a defect on purpose")
