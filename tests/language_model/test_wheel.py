"""The wheel in an environment that has nothing else, as a user of a model installs it."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.projects import PACKAGES, ROOT

pytestmark = pytest.mark.slow  # it installs torch; CI runs it
# With this checkout in PYTHONPATH, pip would consider the package installed.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
}
ABSENT = {"accelerate", "dvc", "matplotlib", "mlflow", "pandas", "pooch"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip"]
    source = folder / "source"
    # A build writes files next to its source, so the source is copied.
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source], check=True
    )
    (wheel,) = folder.glob("charlstm-*.whl")
    venv.create(folder / "venv")
    python = str(folder / "venv/bin/python")
    options = ["--quiet", "--no-compile", "--constraint", str(ROOT / "constraints.txt")]
    install = [*pip, "--python", python, "install", *options, str(wheel)]
    subprocess.run(install, check=True, env=ENVIRONMENT)
    return folder / "venv/bin"


def run(environment: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    called = [str(environment / command[0]), *command[1:]]
    return subprocess.run(
        called, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )


def test_a_model_is_used_without_the_packages_of_training(
    environment: Path, learned: Path, tmp_path: Path
) -> None:
    listed = json.loads(run(environment, tmp_path, "python", "-c", LISTED).stdout)
    assert "torch" in listed and not ABSENT & set(listed)
    model = str(learned)
    code = f"import charlstm; model = charlstm.load({model!r}); "
    code += "print(model.generate('the ', num_chars=7, seed=1), end='')"
    text = run(environment, tmp_path, "python", "-c", code)
    assert (len(text.stdout), text.stderr) == (7, "")

    def charlstm(*arguments: str) -> str:
        done = run(environment, tmp_path, "charlstm", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    options = ("-n7", "--seed=1", "--model", model)
    assert charlstm("generate", "the ", *options) == f"{text.stdout}\n"
    assert "no record found" in charlstm("info", model)


LISTED = """
import importlib.metadata, json
print(json.dumps([one.name for one in importlib.metadata.distributions()]))
"""


def test_what_needs_them_says_so_in_a_line(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()  # as in a project
    done = run(environment, tmp_path, "charlstm", "doctor")
    assert done.returncode == 2 and "is not installed: `pip install" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1
