"""Commands of the tutorial, in a clone."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.documented import PAGES, blocks
from tests.support.projects import PATH, ROOT
from tests.support.stages import IDENTITY

KILL = "timeout --signal KILL"
HASH = re.compile(r"^[0-9a-f]{64}  artifacts/model/model.safetensors$", re.MULTILINE)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path) -> None:
    project = tmp_path / "project"
    subprocess.run(["git", "clone", "--quiet", ROOT, project], check=True)
    mirror = str(ROOT.parent / "shared/datasets")
    environment = {**os.environ, **IDENTITY, "PATH": PATH, "CHARLSTM_MIRROR": mirror}
    environment["CHARLSTM_FALLBACK"] = "1"
    environment.pop("OMP_NUM_THREADS", None)
    commands = [
        line for block in blocks(PAGES["docs/tutorial.md"], "sh") for line in block.splitlines()
    ]
    hashes = []
    for command in commands:
        if command.startswith("source "):
            continue
        line = command.replace("make repro", "dvc repro")
        line = line.replace("/tmp/charlstm-storage", str(tmp_path / "storage"))  # noqa: S108
        done = subprocess.run(
            line, shell=True, cwd=project, env=environment, capture_output=True, text=True
        )
        expected = {137, 124, -9} if KILL in command else {0}
        assert done.returncode in expected, (command, done.stdout, done.stderr)
        hashes += HASH.findall(done.stdout)
        if KILL in command:
            time.sleep(5)  # a user types as slowly; the system must forget the killed process
    assert len(commands) > 15 and len(hashes) == 2 and hashes[0] == hashes[1]
