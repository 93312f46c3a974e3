"""How a process uses its hardware: CPU threads, memory between steps, and GPU kernels that repeat themselves.

torch is imported when it is needed, since the launcher asks for cores alone and imports no torch.
A container may have less of it than the machine: what the control groups (cgroups(7), version 2) allow counts.
"""

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from charlstm.params import Params

# mallopt(3), malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
# Rows × units² at a time step, below which one more thread costs more than it saves (docs/distributed.md).
WORK_PER_THREAD = 2**18
ROOT = Path("/")


def set_num_threads(work: int | None = None) -> None:
    """Share the cores out among this machine's processes, as many of them as `work` can use, unless the user chose.

    `accelerate launch` and `torchrun` set OMP_NUM_THREADS=1 where it is unset, which leaves all cores but one idle.
    A choice is a value above 1, or any value in the environment that the launcher itself was given.
    """
    threads = os.environ.get("OMP_NUM_THREADS")
    is_launched = "TORCHELASTIC_RUN_ID" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ
    if is_launched and threads == "1":
        threads = None
        with contextlib.suppress(psutil.Error):
            if (launcher := psutil.Process().parent()) is not None:
                threads = launcher.environ().get("OMP_NUM_THREADS")
    if threads is None:
        import torch

        cores = max(1, num_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
        torch.set_num_threads(cores if work is None else num_threads(work, cores))


def num_threads(work: int, cores: int) -> int:
    """How many of `cores` a training uses: by its sizes alone, so that the same machine gives the same bits."""
    return max(1, min(cores, work // WORK_PER_THREAD))


def work_of(params: "Params") -> int:
    """The size of the product that threads share at each time step: the rows that a process computes at once × units².

    The same for all processes, also where they share the rows unevenly.
    """
    rows = -(-params.train.batch_size // int(os.environ.get("WORLD_SIZE", "1")))
    return int(min(rows, params.train.micro_batch_size or rows) * params.model.hidden_size**2)


def is_kept_on_cpu() -> bool:
    """Whether `accelerate launch --cpu` keeps training off a GPU that is there; it says so in this variable."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "on", "t", "true", "y", "yes")


def keep_freed_memory() -> None:
    """Let the C library keep what a training step frees for the next one, instead of giving it back to the system.

    By default glibc maps large blocks again each time, and each of their pages then costs a fault: up to a quarter of a
    step (`python -m benchmarks.training`). The price is a process that stays as large as it has ever been.
    Other C libraries are left as they are.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def use_reproducible_kernels() -> None:
    """Use CUDA kernels that give the same bits each time, and fp32 that is fp32 (cuDNN's LSTM takes TF32 by default).

    cuDNN's LSTM repeats itself only with a workspace of `:16:8` or `:4096:2`; of these, torch knows only the first.

    Call it before the first CUDA kernel. On a CPU the kernels in use are reproducible as they are.
    """
    import torch

    if torch.cuda.is_available():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":16:8")
        torch.backends.cudnn.fp32_precision = "ieee"  # of its RNNs, too
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def num_cores(root: Path = ROOT) -> int:
    """Physical cores that this process may use: two hyper-threads of a core only get in each other's way here.

    `root` has `proc` and `sys`. Of a quota of 2.5 cores, 2 count.
    """
    allowed = (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else range(os.cpu_count() or 1)
    )
    try:
        topology = (
            root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
            for cpu in allowed
        )
        cores = len({file.read_text() for file in topology})
    except OSError:
        cores = min(len(allowed), psutil.cpu_count(logical=False) or len(allowed))
    for folder in _control_groups(root):
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max": no quota
            quota, period = map(int, (folder / "cpu.max").read_text().split())
            cores = min(cores, max(1, quota // period))
    return cores


def _control_groups(root: Path) -> Iterator[Path]:
    """The folders of this process's control groups, from its own up to the highest that can be seen.

    In a container the path may be the host's, of which only the top is there, under the container's own name.
    """
    top = root / "sys/fs/cgroup"
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            own = top / line.removeprefix("0::/")
            yield from (
                folder
                for folder in (own, *own.parents)
                if folder.is_relative_to(top) and folder.is_dir()
            )
