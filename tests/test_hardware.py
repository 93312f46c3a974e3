import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.projects import ACCELERATE, PYTHON, ROOT, torchrun
from pipeline.common.hardware import num_cores

ALL, HALF = str(num_cores()), str(max(1, num_cores() // 2))
PROBE = """
import torch
from pipeline.common.hardware import set_num_threads
set_num_threads()
print(torch.get_num_threads())
"""


@pytest.mark.parametrize(
    ("launcher", "chosen", "expected"),
    [
        (PYTHON, None, ALL),
        (PYTHON, "1", "1"),
        ([*ACCELERATE, "-m"], None, ALL),
        ([*ACCELERATE, "-m"], "1", "1"),
        ([*torchrun(2), "-m"], None, HALF),
    ],
)
def test_threads_are_all_cores_unless_the_user_chose(
    tmp_path: Path, launcher: list[str], chosen: str | None, expected: str
) -> None:
    package = tmp_path / "pipeline/common"
    package.mkdir(parents=True)
    (package / "hardware.py").write_text((ROOT / "pipeline/common/hardware.py").read_text())
    (package.parent / "probe.py").write_text(PROBE)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": chosen} if chosen else {}
    done = subprocess.run(
        [*launcher, "pipeline.probe"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert set(done.stdout.split()) == {expected}, done.stderr


FAULTS_PROBE = """
import resource
import torch
from pipeline.common.hardware import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(10_000_000)  # 40 MB, above the largest threshold at which glibc maps memory by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
given_back = faults()
keep_freed_memory()
faults()
print(given_back, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS_PROBE], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    given_back, kept = map(int, done.stdout.split())
    assert kept < given_back / 20
