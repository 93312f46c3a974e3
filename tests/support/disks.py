"""Small disks, and control groups of a container."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BYTES = 4 * 2**20
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of BYTES on `folder`."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def control_group(root: Path, own: str, files: dict[str, str]) -> Path:
    """Write `/proc/self/cgroup` and files of control groups below `root`. Return `root`."""
    groups = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, content in {"proc/self/cgroup": own, **groups}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root
