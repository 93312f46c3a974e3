"""Running stages of a temporary project, as a user would."""

import os
import subprocess
import sys
from pathlib import Path

PYTHON = [sys.executable, "-m"]
TORCHRUN_2 = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "-m"]
BEFORE_TRAINING = ("download", "split", "encode")


def run_stage(project: Path, stage: str, launcher: list[str] = PYTHON, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **env}
    environment.pop("OMP_NUM_THREADS", None)
    return subprocess.run(
        [*launcher, f"pipeline.{stage}"], cwd=project, env=environment, capture_output=True, text=True, timeout=300
    )


def run_stages(project: Path, *stages: str, launcher: list[str] = PYTHON, **env: str) -> None:
    for stage in stages:
        done = run_stage(project, stage, launcher, **env)
        assert done.returncode == 0, done.stderr
