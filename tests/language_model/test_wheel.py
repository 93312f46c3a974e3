"""The package as somebody installs it who only uses a model: a wheel, in an environment with nothing else."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.projects import PACKAGES, ROOT

pytestmark = pytest.mark.slow  # CI runs it; it installs torch
# Where PYTHONPATH names this checkout, pip takes the package for installed.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
}
ABSENT = {"accelerate", "dvc", "matplotlib", "mlflow", "pandas", "pooch"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip"]
    for package in PACKAGES:  # a build leaves files next to what it reads
        shutil.copytree(
            ROOT / package,
            folder / "source" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, folder / "source"],
        check=True,
    )
    (wheel,) = folder.glob("charlstm-*.whl")
    venv.create(folder / "venv")
    python = str(folder / "venv/bin/python")
    options = ["--quiet", "--no-compile", "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run(
        [*pip, "--python", python, "install", *options, str(wheel)], check=True, env=ENVIRONMENT
    )
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
    code = f"import charlstm; print(charlstm.load({str(learned)!r}).generate('the ', num_chars=7, seed=1), end='')"
    text = run(environment, tmp_path, "python", "-c", code)
    assert (len(text.stdout), text.stderr) == (7, "")
    written = run(
        environment,
        tmp_path,
        "charlstm",
        "generate",
        "the ",
        "-n",
        "7",
        "--seed",
        "1",
        "--model",
        str(learned),
    )
    assert (written.returncode, written.stdout) == (0, f"{text.stdout}\n"), written.stderr
    (tmp_path / "text.txt").write_text("the the the")
    scored = run(environment, tmp_path, "charlstm", "score", "text.txt", "--model", str(learned))
    assert scored.returncode == 0 and "nats" in scored.stdout, scored.stderr
    card = run(environment, tmp_path, "charlstm", "info", str(learned))
    assert card.returncode == 0 and "no record found" in card.stdout, card.stderr


LISTED = "import importlib.metadata as m, json; print(json.dumps([one.name for one in m.distributions()]))"


def test_what_needs_them_says_so_in_a_line(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").touch()  # as in a project
    done = run(environment, tmp_path, "charlstm", "doctor")
    assert done.returncode == 2 and "is not installed: `pip install" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1
