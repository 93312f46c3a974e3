import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from charlstm.params import Params
from pipeline.hardware import WORK_PER_THREAD, num_cores, num_threads, set_num_threads, work_of
from tests.support.disks import control_group
from tests.support.projects import ACCELERATE, ROOT, compose, torchrun

ALL, HALF = str(num_cores()), str(max(1, num_cores() // 2))
PROBE = """
import sys
import torch
from pipeline.hardware import set_num_threads
set_num_threads()
sys.stdout.write(f"{torch.get_num_threads()}\\n")  # in one piece: another process writes, too
"""


@pytest.mark.parametrize(
    ("launcher", "expected"), [([*ACCELERATE, "-m"], ALL), ([*torchrun(2), "-m"], HALF)]
)
def test_launchers_leave_all_cores_to_the_processes(
    tmp_path: Path, launcher: list[str], expected: str
) -> None:
    (tmp_path / "probe.py").write_text(PROBE)
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"PYTHONPATH": f"{ROOT}:{tmp_path}"}
    done = subprocess.run(
        [*launcher, "probe"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert set(done.stdout.split()) == {expected}, done.stderr


SIZES = {"train.batch_size": 32, "model.hidden_size": 320}  # of the default recipe


@pytest.fixture
def work(
    tmp_path: Path, params: Callable[[Path, dict[str, Any]], Params]
) -> Callable[[dict[str, Any]], int]:
    return lambda override: work_of(params(tmp_path, SIZES | override))


@pytest.mark.parametrize(
    ("override", "of_2", "of_8", "of_128"),
    [
        ({}, 2, 8, 12),
        ({"model.hidden_size": 256, "model.num_layers": 2}, 2, 8, 8),  # layers take turns
        ({"train.micro_batch_size": 8}, 2, 3, 3),
        ({"train.batch_size": 4, "model.hidden_size": 16}, 1, 1, 1),  # of the tests
        ({"train.batch_size": 100_000, "model.hidden_size": 65_536}, 2, 8, 128),
    ],
)
def test_threads_follow_from_sizes(
    work: Callable[[dict[str, Any]], int],
    override: dict[str, Any],
    of_2: int,
    of_8: int,
    of_128: int,
) -> None:
    assert [num_threads(work(override), cores) for cores in (1, 2, 8, 128)] == [
        1,
        of_2,
        of_8,
        of_128,
    ]


def test_the_document_has_the_threads_of_all_recipes() -> None:
    document = (ROOT / "docs/distributed.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| (\d+) \|$", document, re.MULTILINE)
    found = {recipe: [work, threads] for recipe, work, threads in rows}
    assert set(found) == {"quick", "best", "original", "large"}
    for recipe in found:
        work = work_of(compose(ROOT, [f"recipe={recipe}"]))
        assert found[recipe] == [f"{work:,}", str(num_threads(work, 10_000))], recipe
    assert f"{WORK_PER_THREAD:,} of rows × units²" in " ".join(document.split())


def test_processes_that_share_rows_unevenly_take_the_same_number_of_threads(
    work: Callable[[dict[str, Any]], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert work({}) == 11 * 320**2


def test_a_small_training_leaves_cores_alone_unless_the_user_chose(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.hardware.num_cores", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    set_num_threads(4 * 16**2)
    assert torch.get_num_threads() == 1
    torch.set_num_threads(2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    set_num_threads(4 * 16**2)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),  # version 2, seen from inside the container
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "190000 100000\n"}, 1),  # of a group above
        ("0::/host/name\n", {"cpu.max": "100000 100000\n"}, 1),  # the host's path, which is not here
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    ],
)  # fmt: skip
def test_the_cpu_quota_of_a_container_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: str,
    files: dict[str, str],
    quota: int | None,
) -> None:
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 8)  # whatever this machine has
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert num_cores(control_group(tmp_path, own, files)) == (quota or 8)


def test_two_hyper_threads_are_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only some cores of a machine may be used."""
    for cpu in range(8):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 4, 5})
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 64)
    assert num_cores(tmp_path) == 2


FAULTS = """
import resource
import torch
from pipeline.hardware import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(10_000_000)  # 40 MB, above the largest threshold at which glibc maps memory by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
keep_freed_memory()
faults()
print(given_back, faults())
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries are left as they are"
)
def test_freed_memory_is_kept_for_the_next_step() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    given_back, kept = map(int, done.stdout.split())
    assert kept < given_back / 20
