"""Checks of the machine: threads, a GPU without use, disk space, versions."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from charlstm.params import Params
from charlstm.training.needs import shape_of
from pipeline.doctor.finding import Finding, error, warning
from pipeline.doctor.text import Encoded
from pipeline.hardware import num_cores
from pipeline.provenance.git import git
from pipeline.stage.settings import MAX_THREADS


def check_threads() -> Iterator[Finding]:
    """More threads than cores wait for each other."""
    chosen, allowed = os.environ.get("OMP_NUM_THREADS", ""), num_cores()
    if chosen.isdecimal() and allowed < int(chosen) <= MAX_THREADS:  # above it, `settings` says so
        yield warning(
            f"OMP_NUM_THREADS: {chosen} threads on {allowed} cores get in each other's way, and slow a training: "
            f"set at most {allowed}"
        )


# A GPU that is there, and that this torch cannot use: training would take the processor without a word.

DEVICES = Path("/dev")


def is_gpu_visible(devices: Path = DEVICES) -> bool:
    """Whether the system shows an NVIDIA GPU, and the user has not hidden it."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1") and any(devices.glob("nvidia[0-9]*"))


def check_gpu(devices: Path = DEVICES) -> Iterator[Finding]:
    """torch is asked only if there is a GPU: importing it takes a second."""
    if not is_gpu_visible(devices):
        return
    try:
        import torch
    except ImportError:  # `versions` says so
        return
    if not torch.cuda.is_available():
        yield warning(
            f"gpu: a GPU is here, but torch {version('torch')} (CUDA {torch.version.cuda}) cannot use it, nor would "
            f"training: install another build of torch or a newer driver, or set CUDA_VISIBLE_DEVICES= to say that "
            f"this is meant"
        )


# Disk space: what a training needs at least, beside what there is.

COPIES_OF_TEXT = 3  # the corpus, its parts, their ids
COPIES_OF_WEIGHTS = 5  # in a checkpoint at most: the weights, two moments of each, their average, the best
NUM_CHECKPOINTS = 3  # two that are kept, and one that is written
MB, GB = 1e6, 1e9


def check_disk(params: Params, encoded: Encoded | None, num_bytes: int | None) -> Iterator[Finding]:
    """An error if there is too little for the files alone, a warning if DVC's cache, which copies them, is too much."""
    weights = 4 * shape_of(params.model, len(encoded.vocab) if encoded else 1).num_parameters
    text = COPIES_OF_TEXT * num_bytes if encoded is None and num_bytes is not None else 0
    without_cache = text + (NUM_CHECKPOINTS * COPIES_OF_WEIGHTS + 1) * weights
    with_cache = without_cache + text + weights
    free = shutil.disk_usage(Path.cwd()).free
    if free < with_cache:
        finding = error if free < without_cache else warning
        unit, name = (GB, "GB") if with_cache >= GB else (MB, "MB")
        needed, texts, there = (f"{num_bytes / unit:,.1f}" for num_bytes in (with_cache, text, free))
        yield finding(
            f"disk: about {needed} {name} are needed (texts {texts}, checkpoints and the model, and DVC's cache), "
            f"{there} are free in {Path.cwd()}"
        )


# What is installed, beside what the checkout's `pyproject.toml` asks for.

PROJECT = Path("pyproject.toml")
INSTALL = "`pip install --constraint constraints.txt --editable '.[pipeline]'` installs what is needed"


def check_versions() -> Iterator[Finding]:
    """Missing packages, versions that nobody has tried, git and who commits, and the `python` that DVC's stages run."""
    yield from _check_packages()
    if shutil.which("git") is None:
        yield warning("versions: git is not installed: DVC's experiments need it, and no run can name its commit")
    else:
        yield from _check_identity()
    yield from _check_python_of_stages()


def _check_packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    except (OSError, ValueError, KeyError):  # it asks for nothing
        return
    extra = project.get("optional-dependencies", {}).get("pipeline", [])
    for requirement in map(Requirement, [*project["dependencies"], *extra]):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            yield error(f"versions: {requirement} is not installed: {INSTALL}")
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            yield warning(f"versions: expected {requirement}, found {installed}: {INSTALL}")


def _check_identity() -> Iterator[Finding]:
    """Who commits: DVC's experiments are commits, and fail without, after all their work."""
    for name in ("name", "email"):
        in_environment = (os.environ.get(f"GIT_{role}_{name.upper()}") for role in ("AUTHOR", "COMMITTER"))
        if not git("config", f"user.{name}") and not all(in_environment):
            yield warning(
                f"git: user.{name} not set, and `dvc exp run` fails without: `git config --global user.{name} ...`"
            )


def _check_python_of_stages() -> Iterator[Finding]:
    """Check that `python`, which `dvc.yaml` runs, is this one."""
    python, activate = shutil.which("python"), Path(sys.prefix) / "bin/activate"
    advice = f"`source {activate}` first" if activate.is_file() else f"put {Path(sys.executable).parent} first in PATH"
    if python is None:
        yield error(f"python: expected a `python` in PATH for DVC's stages, found none: {advice}")
    elif Path(python).parent != Path(sys.executable).parent:
        done = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True)
        if done.stdout.strip() != sys.prefix:
            yield warning(f"python: DVC's stages run {python}, which is not of this environment: {advice}")
