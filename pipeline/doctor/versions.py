"""What is installed, beside what `pyproject.toml` asks for."""

import platform
import shutil
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pipeline.doctor.finding import Finding, error, warning

PROJECT = Path("pyproject.toml")
INSTALL = "`pip install --constraint constraints.txt --editable .` installs what is needed"


def check() -> Iterator[Finding]:
    """Missing packages, versions that nobody has tried, and git."""
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
