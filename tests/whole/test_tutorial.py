"""The tutorial, command by command, in a clone."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.documented import blocks
from tests.support.projects import ROOT

KILL = "timeout --signal KILL"
HASH = re.compile(r"^[0-9a-f]{64}  artifacts/model/model.safetensors$", re.MULTILINE)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path) -> None:
    project, storage = tmp_path / "project", str(tmp_path / "storage")
    subprocess.run(["git", "clone", "--quiet", ROOT, project], check=True)
    who = {
        f"GIT_{one}_{what}": "a@b" for one in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    mirror = str(ROOT.parent / "shared/datasets")
    environment = {
        **os.environ,
        **who,
        "PATH": path,
        "CHARLSTM_MIRROR": mirror,
        "CHARLSTM_FALLBACK": "1",
    }
    environment.pop("OMP_NUM_THREADS", None)
    (text,) = ((ROOT / "docs/tutorial.md").read_text(encoding="utf-8"),)
    commands = [line for block in blocks(text, "sh") for line in block.splitlines()]
    hashes = []
    for command in commands:
        if command.startswith("source "):
            continue
        line = command.replace("make repro", "dvc repro").replace("/tmp/charlstm-storage", storage)  # noqa: S108
        done = subprocess.run(
            line, shell=True, cwd=project, env=environment, capture_output=True, text=True
        )
        expected = {137, 124, -9} if KILL in command else {0}
        assert done.returncode in expected, (command, done.stdout, done.stderr)
        hashes += HASH.findall(done.stdout)
        if KILL in command:
            time.sleep(
                5
            )  # as somebody who types: the system takes a moment to forget a killed process
    assert len(commands) > 15 and len(hashes) == 2 and hashes[0] == hashes[1]
