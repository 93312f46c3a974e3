"""What is installed, beside what `pyproject.toml` asks for."""

import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pipeline.common.git import git
from pipeline.doctor.finding import Finding, error, warning

PROJECT = Path("pyproject.toml")
INSTALL = "`pip install --constraint constraints.txt --editable .` installs what is needed"


def check() -> Iterator[Finding]:
    """Missing packages, versions that nobody has tried, git and who commits, and the `python` that DVC's stages run."""
    lines, python = _asked()
    if not SpecifierSet(python).contains(platform.python_version(), prereleases=True):
        yield error(f"versions: expected Python {python}, found {platform.python_version()}")
    for requirement in map(Requirement, lines):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
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
        return list(project["dependencies"]), str(project["requires-python"])
    except (OSError, ValueError, KeyError):
        pass
    try:
        return requires("charlstm") or [], ""
    except PackageNotFoundError:
        return [], ""
