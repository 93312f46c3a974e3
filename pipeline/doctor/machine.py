"""Checks of the machine: busy cores, a GPU without use, memory and disk space, versions."""

import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import psutil

from charlstm.params import Params
from charlstm.training.needs import NUM_KEPT, MemoryNeeds, check_memory, memory_needs, shape_of
from pipeline.doctor.finding import Finding, error, errors_of, warning
from pipeline.doctor.text import Encoded
from pipeline.provenance.git import git
from pipeline.stage.hardware import host_memory, num_cores, num_threads, work_of
from pipeline.stage.settings import MAX_THREADS

# Cores that are busy already: the threads of a training wait for each other at every step, so for the slowest.

SECONDS_OF_LOOKING = 0.3
MIN_BUSY = 0.5  # cores; less is the noise of any machine
MIN_NAMED = 0.1


class Busy(NamedTuple):
    """A process and the cores that it keeps busy."""

    cores: float
    name: str
    pid: int


def check_cores(params: Params | None) -> Iterator[Finding]:
    """The threads that a training of `params` will have, beside what else runs now."""
    allowed = threads = num_cores()
    if params is not None:
        threads = num_threads(work_of(params), threads)
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    if chosen.isdecimal() and 0 < int(chosen) <= MAX_THREADS:  # else: `settings` says so
        threads = int(chosen)
        if threads > allowed:
            yield warning(
                f"OMP_NUM_THREADS: {threads} threads on {allowed} cores get in each other's way, and slow a training: "
                f"set at most {allowed}"
            )
    if os.environ.get("OMP_WAIT_POLICY", "").lower() != "passive":
        yield from beside(busy_processes(), allowed, threads)


def beside(busy: list[Busy], allowed: int, threads: int) -> Iterator[Finding]:
    """Findings on `busy` processes, on a machine where `allowed` cores may be used by `threads` threads.

    A single thread waits for no other.
    """
    cores = sum(process.cores for process in busy)
    if threads == 1 or cores < MIN_BUSY or cores + threads <= allowed:
        return
    named = ", ".join(f"{process.name}, process {process.pid}: {process.cores:.1f}" for process in busy[:3])
    yield warning(
        f"cores: {cores:.1f} of {allowed} are busy ({named}); a training with {threads} threads beside them takes "
        f"about {(cores + threads) / allowed:.1f} times as long: wait for them, or end them, to have all cores"
    )


def busy_processes(seconds: float = SECONDS_OF_LOOKING) -> list[Busy]:
    """Other processes that work now on cores that this one may use, the busiest first.

    Those above and below this one belong to it.
    """
    list(psutil.process_iter(["cpu_percent"]))  # what psutil measures, it measures since it was last asked
    time.sleep(seconds)
    this = psutil.Process()
    own = {this, *this.parents(), *this.children(recursive=True)}
    busy = [
        Busy(cores, process.info["name"], process.pid)
        for process in psutil.process_iter(["cpu_percent", "name"])
        if (cores := (process.info["cpu_percent"] or 0) / 100) >= MIN_NAMED
        if process not in own and _shares_a_core(process)
    ]
    return sorted(busy, reverse=True)


def _shares_a_core(process: psutil.Process) -> bool:
    """Whether it may run where this process may: on a node of several jobs, each has cores of its own."""
    try:
        return not os.sched_getaffinity(0).isdisjoint(os.sched_getaffinity(process.pid))
    except (AttributeError, OSError):  # no such call on macOS; the process is gone
        return True


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


# Memory and disk space: what a training needs at least, beside what there is.

COPIES_OF_TEXT = 3  # the corpus, its parts, their ids
MB, GB = 1e6, 1e9


def check_host_memory(params: Params, encoded: Encoded | None) -> Iterator[Finding]:
    """Check the memory for a training on the processor. The memory of a GPU is the train stage's own question."""
    if not is_gpu_visible():
        yield from errors_of(lambda: check_memory(_needs(params, encoded), host_memory()))


def check_disk(params: Params, encoded: Encoded | None, num_bytes: int | None) -> Iterator[Finding]:
    """An error if there is too little for the files alone, a warning if DVC's cache, which copies them, is too much."""
    needs = _needs(params, encoded)
    checkpoint = needs.weights + needs.optimizer + needs.averages
    text = COPIES_OF_TEXT * num_bytes if encoded is None and num_bytes is not None else 0
    without_cache = text + (NUM_KEPT + 1) * checkpoint + needs.weights
    with_cache = without_cache + text + needs.weights
    free = shutil.disk_usage(Path.cwd()).free
    if free < with_cache:
        finding = error if free < without_cache else warning
        unit, name = (GB, "GB") if with_cache >= GB else (MB, "MB")
        needed, texts, there = (f"{num_bytes / unit:,.1f}" for num_bytes in (with_cache, text, free))
        yield finding(
            f"disk: about {needed} {name} are needed (texts {texts}, checkpoints and the model, and DVC's cache), "
            f"{there} are free in {Path.cwd()}"
        )


def _needs(params: Params, encoded: Encoded | None) -> MemoryNeeds:
    """The needs of one process; an unknown vocabulary counts as one character, so they are never too high."""
    shape = shape_of(params.model, len(encoded.vocab) if encoded else 1)
    return memory_needs(shape, params.train, params.train.batch_size)


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
