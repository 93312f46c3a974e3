"""The hardware of a process: CPU threads, memory between steps, and reproducible GPU kernels.

torch is imported inside functions, because the launcher asks only for cores and starts faster
without torch. In a container, limits of control groups count (cgroups(7), version 2).
"""

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from charlstm.params import Params

# Option numbers for mallopt(3), as defined in malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_MAX = -4
# Minimum work per thread in a time step, measured as rows × hidden units² (docs/distributed.md).
# With less work, an additional thread costs more time than it saves.
WORK_PER_THREAD = 2**18


def set_num_threads(work: int | None = None) -> None:
    """Set torch's number of threads: a fair share of the cores, but no more than `work` can use.

    The user's choice in OMP_NUM_THREADS has priority. `accelerate launch` and `torchrun` set
    this variable to 1 if it is unset, which would leave all other cores idle. So a 1 counts as a
    choice only if the launcher's own environment has it.
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
    """Return the number of threads to use for `work` on a machine with `cores` physical cores.

    The number depends only on sizes, so the same machine always computes the same bits.
    """
    return max(1, min(cores, work // WORK_PER_THREAD))


def work_of(params: "Params") -> int:
    """Return the work of all threads in a time step: rows of a micro-batch × hidden units².

    All processes get the same value, even if they hold different numbers of rows.
    """
    rows = -(-params.train.batch_size // int(os.environ.get("WORLD_SIZE", "1")))
    return int(min(rows, params.train.micro_batch_size or rows) * params.model.hidden_size**2)


def num_cores(root: Path = Path("/")) -> int:
    """Return the number of physical cores that this process may use.

    Hyper-threads of one core count once, because a second one does not speed up training. A CPU
    quota is rounded down. `root` is the folder that has `proc` and `sys`.
    """
    if hasattr(os, "sched_getaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
    else:
        cpus = list(range(os.cpu_count() or 1))
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    try:
        cores = len({(root / topology.format(cpu)).read_text() for cpu in cpus})
    except OSError:
        cores = min(len(cpus), psutil.cpu_count(logical=False) or len(cpus))

    for folder in _control_groups(root):
        # The root group has no file `cpu.max`. Without a quota, the file says "max".
        with contextlib.suppress(OSError, ValueError):
            quota, period = map(int, (folder / "cpu.max").read_text().split())
            cores = min(cores, max(1, quota // period))
    return cores


def _control_groups(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control group and of all groups above it.

    In a container, the path may be the host's. Only its top folder exists then.
    """
    top = root / "sys/fs/cgroup"
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            own = top / line.removeprefix("0::/")
            for folder in (own, *own.parents):
                if folder.is_relative_to(top):
                    yield folder


def is_kept_on_cpu() -> bool:
    """Return True if `accelerate launch --cpu` requests the CPU, even on a machine with a GPU.

    Accelerate passes this option on in an environment variable.
    """
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "on", "t", "true", "y", "yes")


def peak_memory_mib(device_type: str) -> float:
    """Return the peak memory of this process on its device, in MiB."""
    if device_type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated() / 2**20
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def keep_freed_memory() -> None:
    """Make the C library keep freed memory, so that the next training step can reuse it.

    By default, glibc maps large blocks again each time, and each page then costs a page fault. The
    faults take up to a quarter of a step (`python -m benchmarks.training`). In return, the process
    never shrinks. Other C libraries are left unchanged.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def use_reproducible_kernels() -> None:
    """Use CUDA kernels that compute the same bits every time, in full fp32 precision.

    Call this before the first CUDA kernel. CPU kernels are already reproducible.
    """
    import torch

    if torch.cuda.is_available():
        # cuDNN's LSTM is reproducible only with the cuBLAS workspace `:16:8` or `:4096:2`.
        # Of these two workspaces, torch accepts only `:16:8`.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":16:8")
        # By default, cuDNN's LSTM computes in TF32, which is less precise than fp32.
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        torch.backends.cudnn.rnn.fp32_precision = "ieee"  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
