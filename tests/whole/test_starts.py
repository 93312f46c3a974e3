"""Every start works: the first one, which compiles, and those after it, as this machine is and as older ones are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.projects import make_project, write_params
from tests.support.stages import dvc_done, start_dvc

pytestmark = pytest.mark.slow

PROCESSORS = {
    "this one": {},
    "AVX2, no VNNI": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+fma",
    },
    "no AVX2": {
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ATEN_CPU_CAPABILITY": "default",
        "NUMBA_CPU_NAME": "nehalem",
        "NUMBA_CPU_FEATURES": "+sse4.2",
    },
    "one thread": {"OMP_NUM_THREADS": "1"},
}


@pytest.mark.parametrize("processor", PROCESSORS)
def test_each_start_after_the_first_works(
    blank_store: Path, tmp_path: Path, processor: str
) -> None:
    project, environment = (
        tmp_path / "project",
        {**PROCESSORS[processor], "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
    )
    make_project(project, {"train.precision": "auto"})
    shutil.copy(blank_store, project)
    start_dvc(project)

    def charlstm(*arguments: str) -> str:
        command = [sys.executable, "-m", "pipeline.cli", *arguments]
        done = subprocess.run(
            command, cwd=project, env={**os.environ, **environment}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = dvc_done(project, "repro", **environment)
    assert (
        "epoch 1" in first.stdout + first.stderr
        and "no texts were written" not in first.stdout + first.stderr
    )
    texts = [charlstm("generate", "d", "--num-chars", "300", "--seed", "1") for _ in range(2)]
    assert texts[0] == texts[1] and len(texts[0]) >= 300
    write_params(project, {"train.precision": "auto", "train.seed": 2})
    again = dvc_done(project, "repro", "train", **environment)
    assert (
        "epoch 1" in again.stdout + again.stderr
        and "no texts were written" not in again.stdout + again.stderr
    )
    assert "nats" in charlstm("score", "text.txt")
