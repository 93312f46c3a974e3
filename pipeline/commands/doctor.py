"""`charlstm doctor`: what is wrong with the machine, the environment and the stores. Stages check their own input."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from charlstm.errors import CharlstmError, NoStoreError, TrackingError
from charlstm.files.checksums import sha256
from charlstm.files.deadline import answer_within
from charlstm.files.documents import load_yaml
from charlstm.params import NOTHING, Params
from charlstm.tracking.client import Reader
from pipeline.recipes import in_words
from pipeline.run.dvc import Paths, ask_dvc, read_lock, reason_of
from pipeline.run.project import PARAMS, setting_faults, state_root, store
from pipeline.run.stage import EXIT_BAD_INPUT, load
from pipeline.run.terminal import printable

PROJECT = Path("pyproject.toml")
INSTALL = (
    "`pip install --constraint constraints.txt --editable '.[pipeline]'` installs what is needed"
)
DEVICES = Path("/dev")
SECONDS_TO_ANSWER = 5.0
MIN_FREE_BYTES = 2e9  # checkpoints, DVC's cache, and what `make repro` makes of a small text


def doctor(
    is_cleaned: Annotated[
        bool,
        typer.Option(
            "--clean", help="First remove all unfinished trainings: they cannot be resumed."
        ),
    ] = False,
) -> int:
    """Check versions, `PATH`, git, DVC, disk, processor and stores.

    Each fault is a line that says what to do. The first line says which text and recipe `params.yaml` has, what
    differs from them, and the precision of a training here. Stages check their own parameters, text and prompts.

    Exit code: 0, also with warnings; 2 if there is an error.
    """
    checks = [
        check_settings,
        check_packages,
        check_python,
        check_git,
        check_dvc,
        check_disk,
        check_tracker,
        check_gpu,
    ]
    found = []
    if is_cleaned:
        from pipeline.run.unfinished import remove_others

        removed = remove_others(state_root(), is_all=True)
        typer.echo(f"unfinished trainings removed: {len(removed)}")
    try:
        params, paths = load()
        checks.append(partial(check_substitute, params, paths))
        typer.echo(f"params.yaml: {in_words(params.values())}; {_precision(params)}")
    except CharlstmError as error:
        found.append(f"ERROR: {error}")
    with ThreadPoolExecutor() as threads:  # DVC and a server take seconds
        for lines in threads.map(findings, checks):
            found += lines
    for line in sorted(found):  # errors first
        typer.echo(printable(" ".join(line.split()), sys.stderr.encoding), err=True)
    if not found:
        typer.echo("nothing is wrong")
    return EXIT_BAD_INPUT if any(line.startswith("ERROR") for line in found) else 0


def findings(check: Callable[[], Iterable[str]]) -> list[str]:
    """The lines of a check, and of what it raises."""
    try:
        return list(check())
    except (CharlstmError, OSError) as error:
        return [f"ERROR: {error}"]


def _precision(params: Params) -> str:
    from charlstm.training.precision import choose_precision, kind_of_device

    return "{}: {}".format(*choose_precision(params.train.precision, kind_of_device()))


def check_settings() -> Iterator[str]:
    """Variables of the environment that are out of their range."""
    yield from (f"ERROR: {fault}" for fault in setting_faults())


def check_packages() -> Iterator[str]:
    """Packages that are missing, or of another version than `pyproject.toml` asks for."""
    from packaging.requirements import Requirement

    project = (
        tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"] if PROJECT.is_file() else {}
    )
    extra = project.get("optional-dependencies", {}).get("pipeline", [])
    for requirement in map(Requirement, [*project.get("dependencies", []), *extra]):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            yield f"ERROR: versions: {requirement} is not installed: {INSTALL}"
        else:
            if not requirement.specifier.contains(installed, prereleases=True):
                yield f"WARNING: versions: expected {requirement}, found {installed}: {INSTALL}"


def check_python() -> Iterator[str]:
    """Whether `python`, which `dvc.yaml` runs, is of this environment."""
    python, activate = shutil.which("python"), Path(sys.prefix) / "bin/activate"
    advice = (
        f"`source {activate}` first"
        if activate.is_file()
        else f"put {Path(sys.executable).parent} first in PATH"
    )
    if python is None:
        yield f"ERROR: python: expected a `python` in PATH for DVC's stages, found none: {advice}"
        return
    done = subprocess.run(
        [python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True
    )
    if done.stdout.strip() != sys.prefix:
        yield f"WARNING: python: DVC's stages run {python}, which is not of this environment: {advice}"


def check_git() -> Iterator[str]:
    """Whether git answers here (a repository may be another user's), and who commits: DVC's experiments are commits."""
    if shutil.which("git") is None:
        yield "WARNING: git is not installed: DVC's experiments need it, and no run can name its commit"
        return
    done = subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True, text=True)
    if done.returncode:
        yield f"ERROR: git: {done.stderr}"
    for name in ("name", "email"):
        done = subprocess.run(["git", "config", f"user.{name}"], capture_output=True, text=True)
        if done.returncode and f"GIT_COMMITTER_{name.upper()}" not in os.environ:
            advice = f"`git config --global user.{name} ...`"
            yield f"WARNING: git: user.{name} not set, and `dvc exp run` fails without: {advice}"


def check_dvc() -> Iterator[str]:
    """Whether DVC can work here; and files of the user's own in a stage's output folder."""
    read_lock()  # raises an error that says more than DVC's
    watched = load_yaml(PARAMS)["download"]["watch"]
    if not Path(watched).exists():
        advice = f"set download.watch to {NOTHING} to go on with the text that is here"
        yield f"ERROR: {watched}: download.watch names it, and it is missing, so `dvc repro` fails: {advice}"
    done = ask_dvc("data", "status", "--json", "--granular")
    if done.returncode:
        yield f"ERROR: dvc: {reason_of(done).removeprefix('ERROR: ')}"
        return
    changed = json.loads(done.stdout or "{}").get("uncommitted", {})
    if not changed.get("deleted"):  # else these are outputs of another commit
        for name in changed.get("added", []):
            yield f"WARNING: {name}: no stage wrote it; DVC removes {Path(name).parent} before its stage runs: move it"


def check_disk() -> Iterator[str]:
    """Whether there is room to work."""
    if (free := shutil.disk_usage(".").free) < MIN_FREE_BYTES:
        needed = f"a training may need {MIN_FREE_BYTES / 1e9:.0f} GB and more"
        advice = "`charlstm doctor --clean` removes unfinished trainings, `dvc gc --workspace` unused outputs"
        yield f"WARNING: disk: {free / 1e9:.1f} GB are free in {Path.cwd()}, {needed}: {advice}"


def check_tracker() -> Iterator[str]:
    """Whether MLflow's store can be read. Training does not wait for it."""
    where = store()
    try:
        answer_within(SECONDS_TO_ANSWER, partial(Reader, where))
    except NoStoreError:  # the first training makes it
        pass
    except (TrackingError, TimeoutError) as error:
        yield f"WARNING: tracker: {error}; training does not wait, and `charlstm sync` sends later what it missed"


def check_gpu(devices: Path = DEVICES) -> Iterator[str]:
    """Whether torch can use a GPU that is there: training would take the processor, and not say so."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or not any(
        devices.glob("nvidia[0-9]*")
    ):
        return
    import torch

    if not torch.cuda.is_available():
        yield (
            f"WARNING: gpu: a GPU is here, but torch {version('torch')} (CUDA {torch.version.cuda}) cannot use it, nor "
            f"would training: install another build of torch or a newer driver, or set CUDA_VISIBLE_DEVICES="
        )


def check_substitute(params: Params, paths: Paths) -> Iterator[str]:
    """Whether the text is the one that is named."""
    fallback = params.download.fallback
    if fallback is not None and paths.corpus.is_file() and sha256(paths.corpus) == fallback.sha256:
        advice = "`dvc repro --force download` tries again to get the text that is named"
        yield f"WARNING: {paths.corpus} is a substitute, {fallback.requirement}, since no source answered: {advice}"
