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
import sys
import torch
from pipeline.common.hardware import set_num_threads
set_num_threads()
sys.stdout.write(f"{torch.get_num_threads()}\\n")  # in one piece: another process writes, too
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


def control_group(root: Path, own: str, files: dict[str, str]) -> Path:
    """A root folder with `/proc/self/cgroup` and files of control groups."""
    for name, content in {
        "proc/self/cgroup": own,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def version_1(folder: str, quota: int) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),  # version 2, seen from inside the container
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),  # half a core is one thread
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "190000 100000\n"}, 1),  # of a group above
        ("0::/host/name\n", {"cpu.max": "100000 100000\n"}, 1),  # the host's path, which is not here
        ("4:cpu,cpuacct:/a\n0::/\n", version_1("cpu,cpuacct/a", 100_000), 1),
        ("4:cpu,cpuacct:/a\n0::/\n", version_1("cpu/a", 100_000), 1),
        ("1:cpu:/\n0::/\n", version_1("cpu", -1), None),
        ("1:cpu:/\n", version_1("cpu", 300_000), 3),
        ("1:memory:/\n", {"memory/cpu.max": "100000 100000"}, None),
        ("0::/\n", {"cpu.max": "damaged"}, None),
        ("0::/\n", {}, None),
    ],
)  # fmt: skip
def test_the_cpu_quota_of_a_container_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], quota: int | None
) -> None:
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 8)  # whatever this machine has
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert num_cores(control_group(tmp_path, own, files)) == (quota or 8)


def test_without_control_groups_all_cores_count(tmp_path: Path) -> None:
    assert num_cores(tmp_path) >= 1
