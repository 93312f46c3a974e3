"""Starts on several processors: the first start, which compiles, and later starts."""

import shutil
from pathlib import Path

import pytest

from tests.support.projects import CHARLSTM, captured, make_project, write_params
from tests.support.stages import dvc_done, start_dvc

pytestmark = pytest.mark.slow

PROCESSORS = {
    "this one": {},
    "AVX2, no VNNI": {
        **{"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
        **{"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
    },
    "no AVX2": {
        **{"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
        **{"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "+sse4.2"},
    },
    "one thread": {"OMP_NUM_THREADS": "1"},
}


@pytest.mark.parametrize("processor", PROCESSORS)
def test_each_start_after_the_first_works(
    blank_store: Path, tmp_path: Path, processor: str
) -> None:
    project = tmp_path / "project"
    environment = {**PROCESSORS[processor], "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    make_project(project, {"train.precision": "auto"})
    shutil.copy(blank_store, project)
    start_dvc(project)

    def charlstm(*arguments: str) -> str:
        done = captured([*CHARLSTM, *arguments], project, **environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def train() -> None:
        done = dvc_done(project, "repro", **environment)
        said = done.stdout + done.stderr
        assert "epoch 1" in said and "no texts were written" not in said

    train()
    texts = [charlstm("generate", "d", "--num-chars", "300", "--seed", "1") for _ in range(2)]
    assert texts[0] == texts[1] and len(texts[0]) >= 300
    write_params(project, {"train.precision": "auto", "train.seed": 2})
    train()
    assert "nats" in charlstm("score", "text.txt")
