"""A GPU that is there, and that this torch cannot use: training would take the processor without a word."""

import os
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.doctor.finding import Finding, warning

DEVICES = Path("/dev")


def is_gpu_visible(devices: Path = DEVICES) -> bool:
    """Whether the system shows an NVIDIA GPU, and the user has not hidden it."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1") and any(devices.glob("nvidia[0-9]*"))


def check(devices: Path = DEVICES) -> Iterator[Finding]:
    """torch is asked only if there is a GPU: importing it takes a second."""
    if not is_gpu_visible(devices):
        return
    try:
        built = version("torch")
    except PackageNotFoundError:  # `versions` says so
        return
    import torch

    if torch.version.cuda is None and torch.version.hip is None:
        yield warning(
            f"gpu: a GPU is here, but torch {built} is a build for processors alone: training would not use it; "
            f"install a CUDA build of torch, or set CUDA_VISIBLE_DEVICES= to say that this is meant"
        )
    elif not torch.cuda.is_available():
        yield warning(
            f"gpu: a GPU is here, but torch {built} cannot use it (CUDA {torch.version.cuda}): training would not use "
            f"it; a newer driver, or another build of torch, is needed"
        )
