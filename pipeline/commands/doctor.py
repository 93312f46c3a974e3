"""`charlstm doctor`: checks of the machine, the environment and the stores.

Stages check their own input.
"""

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
from charlstm.files.deadline import answer_within
from charlstm.files.documents import load_yaml
from charlstm.params import NOTHING
from charlstm.tracking.client import Reader
from pipeline.lineage.git import fault, git
from pipeline.recipes import in_words
from pipeline.run.dvc import ask_dvc, read_lock, reason_of
from pipeline.run.project import PARAMS, state_root
from pipeline.run.stage import EXIT_BAD_INPUT, load
from pipeline.run.store import store
from pipeline.run.terminal import printable

PROJECT = Path("pyproject.toml")
INSTALL = "run `pip install --constraint constraints.txt --editable '.[pipeline]'`"
DEVICES = Path("/dev")
SECONDS_TO_ANSWER = 5.0
MIN_FREE_BYTES = 2e9  # for checkpoints, DVC's cache and the results of `make repro` on a small text


def doctor(
    clean: Annotated[
        bool,
        typer.Option(
            "--clean",
            help="First remove all unfinished training runs, which then cannot be resumed.",
        ),
    ] = False,
) -> int:
    """Check package versions, `PATH`, git, DVC, disk space, GPU and MLflow.

    Each problem is reported in a line that says what to do. The first line of output names the text
    and the recipe in `params.yaml`, with all changes. Stages check parameters, text and prompts
    themselves.

    Exit code: 0, also with warnings; 2 if there is an error.
    """
    if clean:
        from pipeline.run.unfinished import remove_others

        removed = remove_others(state_root(), is_all=True)
        typer.echo(f"unfinished training runs removed: {len(removed)}")

    checks = [
        check_packages,
        check_python,
        check_git,
        check_dvc,
        check_disk,
        check_tracker,
        check_gpu,
    ]
    problems = []
    try:
        params, _ = load()
        typer.echo(f"params.yaml: {in_words(params.values())}")
    except CharlstmError as error:
        problems.append(f"ERROR: {error}")
    with ThreadPoolExecutor() as threads:  # DVC and MLflow take seconds to answer
        for lines in threads.map(findings, checks):
            problems += lines

    for line in sorted(problems):  # errors before warnings
        typer.echo(printable(" ".join(line.split())), err=True)
    if not problems:
        typer.echo("nothing is wrong")
    return EXIT_BAD_INPUT if any(line.startswith("ERROR") for line in problems) else 0


def findings(check: Callable[[], Iterable[str]]) -> list[str]:
    """Return the lines that a check yields. An error that the check raises becomes a line."""
    try:
        return list(check())
    except (CharlstmError, OSError) as error:
        return [f"ERROR: {error}"]


def check_packages() -> Iterator[str]:
    """Yield a line for each package that is missing or whose version `pyproject.toml` excludes."""
    from packaging.requirements import Requirement

    if not PROJECT.is_file():
        return
    project = tomllib.loads(PROJECT.read_text("utf-8"))["project"]
    extra = project.get("optional-dependencies", {}).get("pipeline", [])
    for requirement in map(Requirement, [*project["dependencies"], *extra]):
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            yield f"ERROR: versions: {requirement} is not installed: {INSTALL}"
        else:
            if not requirement.specifier.contains(installed, prereleases=True):
                yield f"WARNING: versions: expected {requirement}, found {installed}: {INSTALL}"


def check_python() -> Iterator[str]:
    """Yield a line if the `python` that DVC's stages run is missing or in another environment."""
    python = shutil.which("python")
    advice = f"activate this environment, or put {Path(sys.executable).parent} first in PATH"
    if python is None:
        yield f"ERROR: python: expected a `python` in PATH for DVC's stages, found none: {advice}"
        return
    command = [python, "-c", "import sys; print(sys.prefix)"]
    prefix = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if prefix != sys.prefix:
        yield f"WARNING: python: DVC's stages run {python}, from another environment: {advice}"


def check_git() -> Iterator[str]:
    """Yield a line if git does not work here, or lacks the user name or email that DVC needs."""
    if shutil.which("git") is None:
        yield "WARNING: git is not installed: DVC's experiments and a run's commit need git"
        return
    if reason := fault():
        yield f"ERROR: git: {reason}"
    for name in ("name", "email"):
        is_set = f"GIT_COMMITTER_{name.upper()}" in os.environ or git("config", f"user.{name}")
        if not is_set:
            yield (
                f"WARNING: git: user.{name} is not set, so `dvc exp run` fails: `git config "
                f"--global user.{name} ...` sets it"
            )


def check_dvc() -> Iterator[str]:
    """Yield a line if DVC fails, and one for each of the user's files in an output folder."""
    read_lock()  # raises a clearer error than DVC does
    watched = load_yaml(PARAMS)["download"]["watch"]
    if not Path(watched).exists():
        yield (
            f"ERROR: {watched}: the file named in download.watch is missing: set download.watch to "
            f"{NOTHING} to continue with the existing text"
        )

    done = ask_dvc("data", "status", "--json", "--granular")
    if done.returncode:
        yield f"ERROR: dvc: {reason_of(done).removeprefix('ERROR: ')}"
        return
    changed = json.loads(done.stdout or "{}").get("uncommitted", {})
    # If outputs are missing, the added files are probably outputs of another commit.
    if not changed.get("deleted"):
        for name in changed.get("added", []):
            yield (
                f"WARNING: {name}: no stage wrote it, and DVC removes {Path(name).parent} before "
                "its stage runs: move it to another folder"
            )


def check_disk() -> Iterator[str]:
    """Yield a line if there is little free disk space."""
    if (free := shutil.disk_usage(".").free) < MIN_FREE_BYTES:
        yield (
            f"WARNING: disk: {free / 1e9:.1f} GB are free in {Path.cwd()}, but training may need "
            f"more than {MIN_FREE_BYTES / 1e9:.0f} GB: free space with `charlstm doctor --clean` "
            "or `dvc gc --workspace`"
        )


def check_tracker() -> Iterator[str]:
    """Yield a line if MLflow's store cannot be read. Training works without the store."""
    where = store()
    try:
        answer_within(SECONDS_TO_ANSWER, partial(Reader, where))
    except NoStoreError:  # the first training creates the store
        pass
    except (TrackingError, TimeoutError) as error:
        yield (
            f"WARNING: tracker: {error}; training does not wait, and `charlstm sync` sends missing "
            "data later"
        )


def check_gpu(devices: Path = DEVICES) -> Iterator[str]:
    """Yield a line if torch cannot use the GPU. Training would then silently run on the CPU."""
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if is_hidden or not any(devices.glob("nvidia[0-9]*")):
        return
    import torch

    if not torch.cuda.is_available():
        yield (
            f"WARNING: gpu: torch {version('torch')} (CUDA {torch.version.cuda}) cannot use the "
            "GPU, so training runs on the CPU: install another build of torch or a newer driver, "
            "or set CUDA_VISIBLE_DEVICES="
        )
