from pathlib import Path

import pytest
import torch

from pipeline.hardware import num_cores, num_threads, set_num_threads, work_of
from tests.support.disks import control_group
from tests.support.projects import (
    ROOT,
    Override,
    captured,
    tiny_params,
    torchrun,
)

HALF = str(max(1, num_cores() // 2))
# The line is written in one piece, because another process writes too.
PROBE = """
import sys
import torch
from pipeline.hardware import set_num_threads
set_num_threads()
sys.stdout.write(f"{torch.get_num_threads()}\\n")
"""


def test_launchers_leave_all_cores_to_the_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "probe.py").write_text(PROBE)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    path = f"{ROOT}:{tmp_path}"
    done = captured([*torchrun(2), "-m", "probe"], tmp_path, 120, PYTHONPATH=path)
    assert set(done.stdout.split()) == {HALF}, done.stderr


# The default recipe's sizes.
SIZES: Override = {"train.batch_size": 32, "model.hidden_size": 320}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({}, [1, 2, 8, 12]),
        # Layers are computed one after the other.
        ({"model.hidden_size": 256, "model.num_layers": 2}, [1, 2, 8, 8]),
        ({"train.batch_size": 4, "model.hidden_size": 16}, [1, 1, 1, 1]),
    ],
)
def test_threads_follow_from_sizes(tmp_path: Path, override: Override, expected: list[int]) -> None:
    work = work_of(tiny_params(tmp_path, SIZES | override))
    assert [num_threads(work, cores) for cores in (1, 2, 8, 128)] == expected


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
        # A group above has the quota.
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "190000 100000\n"}, 1),
        # The host's path does not exist in the container.
        ("0::/host/name\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
    ],
)
def test_the_cpu_quota_of_a_container_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str], quota: int
) -> None:
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 8)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert num_cores(control_group(tmp_path, own, files)) == quota


def test_two_hyper_threads_are_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This also holds where only some cores of a machine may be used."""
    for cpu in range(8):
        folder = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 4, 5})
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 64)
    assert num_cores(tmp_path) == 2
