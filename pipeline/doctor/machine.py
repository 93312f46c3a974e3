"""Checks of the machine: busy cores, a GPU without use, memory and disk space, versions."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

import psutil

from charlstm.model.shape import ModelShape
from charlstm.params import Params
from charlstm.training.needs import MemoryNeeds, check_memory
from pipeline.doctor.finding import Finding, error, errors_of, warning
from pipeline.doctor.text import Encoded
from pipeline.dvc.paths import FILE, load_teaching_paths
from pipeline.provenance.git import git
from pipeline.stage.hardware import host_memory, num_cores, num_threads, work_of
from pipeline.stage.memory_needed import memory_needed
from pipeline.stage.settings import MAX_THREADS
from pipeline.stage.waiting import OF_THE_USER

# Cores that are busy already: the threads of a training wait for each other at every step, so for the slowest.
#
# Beside other work ours sleep while they wait (`pipeline.stage.waiting`), and get their share of the cores. Where the
# user lets them spin, they keep the other process, and so the slowest thread, from its core.

SECONDS_OF_LOOKING = 0.3
MIN_BUSY = 0.5  # cores; less is the noise of any machine
MIN_NAMED = 0.1
MOST_SPINS = 10_000


class Busy(NamedTuple):
    """A process and the cores that it keeps busy."""

    cores: float
    name: str
    pid: int


def check_cores(params: Params | None) -> Iterator[Finding]:
    """The threads that a training of `params` will have, beside what else runs now."""
    yield from thread_faults(os.environ.get("OMP_NUM_THREADS"), _allowed())
    if os.environ.get("OMP_WAIT_POLICY", "").lower() != "passive":
        yield from beside(busy_processes(), _allowed(), _num_threads(params), spins=_spin_long())


def thread_faults(value: str | None, allowed: int) -> Iterator[Finding]:
    """`value` is that of OMP_NUM_THREADS."""
    if value is not None and value.isdecimal() and allowed < int(value) <= MAX_THREADS:  # else: `settings` says so
        yield warning(
            f"OMP_NUM_THREADS: {value} threads on {allowed} cores wait for each other, and training is many times "
            f"slower: set at most {allowed}"
        )


def beside(busy: list[Busy], allowed: int, threads: int, *, spins: bool = False) -> Iterator[Finding]:
    """What to say of `busy` processes on a machine where `allowed` cores may be used by `threads` threads.

    A single thread waits for no other. `spins`: threads spin for long while they wait.
    """
    cores = sum(one.cores for one in busy)
    if threads == 1 or cores < MIN_BUSY or cores + threads <= allowed:
        return
    named = ", ".join(f"{one.name}, process {one.pid}: {one.cores:.1f}" for one in busy[:3])
    cost = f"takes {(cores + threads) / allowed:.1f} times as long or a little more: end them to have all cores"
    if spins:
        cost = "is many times slower, as its threads spin while they wait: end them, or unset " + " and ".join(
            OF_THE_USER
        )
    yield warning(
        f"cores: {cores:.1f} of {allowed} are busy ({named}); a training with {threads} threads beside them {cost}"
    )


def busy_processes(seconds: float = SECONDS_OF_LOOKING) -> list[Busy]:
    """Other processes that work now, the busiest first; those above and below this one belong to it."""
    before, since = _times(), time.monotonic()
    time.sleep(seconds)
    after, elapsed = _times(), time.monotonic() - since
    me = psutil.Process()
    own = {me, *me.parents(), *me.children(recursive=True)}
    found = [
        Busy((used - before[one]) / elapsed, _name(one), one.pid)
        for one, used in after.items()
        if one in before and one not in own
    ]
    return sorted((one for one in found if one.cores >= MIN_NAMED), reverse=True)


def _times() -> dict[psutil.Process, float]:
    """Seconds of processor time that each process has used."""
    found = {}
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            used = one.cpu_times()
            found[one] = used.user + used.system
    return found


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return "ended since"


def _spin_long() -> bool:
    """Whether the user wants threads to spin for milliseconds, beside other work too."""
    count = os.environ.get("GOMP_SPINCOUNT", "")
    is_long = not count.isdecimal() or int(count) > MOST_SPINS
    return is_long if count else os.environ.get("OMP_WAIT_POLICY", "").lower() == "active"


def _allowed() -> int:
    """Hyper-threads that this process may use; with a container's quota, its cores."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = num_cores()
    has_quota = cores < min(affinity, psutil.cpu_count(logical=False) or affinity)
    return cores if has_quota else affinity


def _num_threads(params: Params | None) -> int:
    value = os.environ.get("OMP_NUM_THREADS", "")
    if value.isdecimal() and int(value) > 0:
        return int(value)
    return num_cores() if params is None else num_threads(work_of(params), num_cores())


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


# Memory and disk space: what a training needs at least, beside what there is.

COPIES_OF_TEXT = 3  # the corpus, its parts, their ids
NUM_CHECKPOINTS = 3  # two are kept while a third is written
GB = 1e9


def check_host_memory(params: Params, encoded: Encoded | None) -> Iterator[Finding]:
    """Of a training on the processor. The memory of a GPU is the train stage's own question."""
    if not is_gpu_visible():
        shape, needs = _needs(params, encoded)
        yield from errors_of(lambda: check_memory(shape, needs, host_memory()))


def check_disk(params: Params, encoded: Encoded | None, num_bytes: int | None) -> Iterator[Finding]:
    """An error if there is too little for the files alone, a warning if DVC's cache, which copies them, is too much."""
    needs = _needs(params, encoded)[1]
    checkpoint = needs.weights + needs.optimizer + needs.averages
    text = COPIES_OF_TEXT * num_bytes if encoded is None and num_bytes is not None else 0
    taught = _teachers_bytes(params, encoded)
    without_cache = text + taught + NUM_CHECKPOINTS * checkpoint + needs.weights
    with_cache = without_cache + text + taught + needs.weights
    free = shutil.disk_usage(Path.cwd()).free
    if free < with_cache:
        finding = error if free < without_cache else warning
        written = f"{taught * 2 / GB:,.1f} for what teachers write and its cache, " if taught else ""
        yield finding(
            f"disk: about {with_cache / GB:,.1f} GB are needed ({text * 2 / GB:,.1f} for the text, its parts, its ids "
            f"and DVC's cache of them, {written}{(with_cache - 2 * (text + taught)) / GB:,.1f} for checkpoints and the "
            f"model), {free / GB:,.1f} are free in {Path.cwd()}"
        )


def _teachers_bytes(params: Params, encoded: Encoded | None) -> int:
    """Of the parts that a student's teachers have still to write: a distribution and an id for each character."""
    teachers = params.teachers
    if not teachers.recipes or not FILE.exists():
        return 0
    text = load_teaching_paths().text
    num_parts = sum(not (text / str(part)).exists() for part in teachers.parts)
    return num_parts * teachers.chars_of_part * (_vocab_size(encoded) + 1)


def _needs(params: Params, encoded: Encoded | None) -> tuple[ModelShape, MemoryNeeds]:
    """Of one process; an unknown vocabulary counts as one character, so the need is never put too high."""
    model = params.model
    sizes = (model.embedding_size, model.hidden_size, model.num_layers, model.feed_forward_size)
    shape = ModelShape(_vocab_size(encoded), *sizes)
    return shape, memory_needed(shape, params.train, params.train.batch_size)


def _vocab_size(encoded: Encoded | None) -> int:
    return len(encoded.vocab) if encoded else 1


# What is installed, beside what `pyproject.toml` asks for.

PROJECT = Path("pyproject.toml")
INSTALL = "`pip install --constraint constraints.txt --editable '.[pipeline]'` installs what is needed"


def check_versions() -> Iterator[Finding]:
    """Missing packages, versions that nobody has tried, git and who commits, and the `python` that DVC's stages run."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    lines, python = _asked()
    if not SpecifierSet(python).contains(platform.python_version(), prereleases=True):
        yield error(f"versions: expected Python {python}, found {platform.python_version()}")
    for requirement in map(Requirement, lines):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": "pipeline"}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield error(f"versions: {requirement} is not installed: {INSTALL}")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            yield warning(f"versions: expected {requirement}, found {found}: {INSTALL}")
    if shutil.which("git") is None:
        yield warning("versions: git is not installed: DVC's experiments need it, and no run can name its commit")
    else:
        yield from _identity()
    yield from _python_of_stages()


def _identity() -> Iterator[Finding]:
    """Who commits: DVC's experiments are commits, and fail without, after all their work."""
    known = {name: git("config", f"user.{name}") for name in ("name", "email")}
    missing = [
        f"user.{name}"
        for name, value in known.items()
        if not all(os.environ.get(f"GIT_{role}_{name.upper()}", value) for role in ("AUTHOR", "COMMITTER"))
    ]
    if missing:
        commands = " and ".join(f"`git config --global {name} ...`" for name in missing)
        yield warning(f"git: {' and '.join(missing)} not set, and `dvc exp run` fails without: {commands}")


def _python_of_stages() -> Iterator[Finding]:
    """`dvc.yaml` says `python`: is it this one?"""
    found, activate = shutil.which("python"), Path(sys.prefix) / "bin/activate"
    advice = f"`source {activate}` first" if activate.is_file() else f"put {Path(sys.executable).parent} first in PATH"
    if found is None:
        yield error(f"python: expected a `python` in PATH for DVC's stages, found none: {advice}")
    elif Path(found).parent != Path(sys.executable).parent and _prefix_of(found) != sys.prefix:
        yield warning(f"python: DVC's stages run {found}, which is not of this environment: {advice}")


def _prefix_of(python: str) -> str:
    done = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True)
    return done.stdout.strip()


def _asked() -> tuple[list[str], str]:
    """Requirements and the range of Python: of the checkout, else of the installed package."""
    try:
        project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
        return [*project["dependencies"], *project.get("optional-dependencies", {}).get("pipeline", [])], str(
            project["requires-python"]
        )
    except (OSError, ValueError, KeyError):
        pass
    try:
        return requires("charlstm") or [], ""
    except PackageNotFoundError:
        return [], ""
