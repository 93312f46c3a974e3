"""Requeues of the Slurm job, with stand-ins for Slurm."""

import os
from pathlib import Path

import pytest

from tests.support.projects import ROOT, captured

STAND_INS = {
    "dvc": '[ "$1" != status ]',  # the train stage is out of date
    "srun": 'mkdir -p .charlstm/x/$NEWEST; exit "$SAYS"',
    "scontrol": 'echo "$@" >> said',
    "sleep": "",
}


@pytest.mark.parametrize(
    ("code", "newest", "is_queued"),
    [
        (1, "step-000000020", True),
        (137, "step-000000020", True),  # the launcher was killed
        (1, "step-000000010", False),  # without progress, it would fail forever
    ],
)
def test_an_interrupted_job_is_queued_again_if_it_made_progress(
    tmp_path: Path, code: int, newest: str, is_queued: bool
) -> None:
    (tmp_path / ".charlstm/x/step-000000010").mkdir(parents=True)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, body in STAND_INS.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "CHARLSTM_HEAD": "one"}
    job |= {"SAYS": str(code), "NEWEST": newest, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = captured(["bash", ROOT / "cluster/charlstm.sbatch"], tmp_path, 60, **job)
    assert done.returncode == code, done.stderr
    said = tmp_path / "said"
    assert said.read_text() == "requeue 7\n" if is_queued else not said.exists()
