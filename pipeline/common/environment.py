"""What a training runs on, as tags: the versions of libraries that decide bits, and the hardware."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

LIBRARIES = ("torch", "accelerate", "numpy", "pandas", "matplotlib", "safetensors", "dvc", "mlflow")
GIB = 2**30


def environment() -> dict[str, str]:
    """Tags `versions.*` and `hardware.*` of this process."""
    found = {f"versions.{name}": _version(name) for name in LIBRARIES} | {"versions.python": platform.python_version()}
    found |= {
        "hardware.processor": _processor(),
        "hardware.instructions": torch.backends.cpu.get_cpu_capability(),
        "hardware.cores": str(psutil.cpu_count(logical=False) or os.cpu_count() or 1),
        "hardware.threads": str(torch.get_num_threads()),
        "hardware.memory_gib": f"{psutil.virtual_memory().total / GIB:.1f}",
    }
    if torch.cuda.is_available():
        found["hardware.gpu"] = torch.cuda.get_device_name()
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _processor() -> str:
    """As Linux names it; else as Python does."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
