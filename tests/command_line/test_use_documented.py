"""Examples in README and docs/generate.md run unchanged on a tiny trained model."""

import contextlib
import re
import shlex
import shutil
from pathlib import Path

import pytest

from pipeline import cli
from tests.support.documented import PAGES, blocks, commands_of

WITH_EXAMPLES = ("README.md", "docs/generate.md")
# A small text lacks characters of the examples.
NOTE = re.compile(r"note: characters that the model never saw are read as U\+FFFD: .*\n")
USING = re.compile(r"charlstm (generate|score|info)\b")
SCRIPTS = [(name, block) for name in WITH_EXAMPLES for block in blocks(PAGES[name], "python")]
FOUND = set().union(*(commands_of(PAGES[name]) for name in WITH_EXAMPLES))
COMMANDS = sorted(filter(USING.match, FOUND))


@pytest.fixture(scope="module")
def project(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the files that examples name, without a pipeline."""
    folder = tmp_path_factory.mktemp("documented") / "project"
    for name in ("artifacts", "Datasets"):
        shutil.copytree(trained / name, folder / name)
    (folder / "prompt.txt").write_text("ROMEO:\n")
    return folder


@pytest.mark.parametrize(("page", "script"), SCRIPTS)
def test_python_examples_run(
    page: str, script: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.chdir(project):
        exec(compile(script, page, "exec"), {})  # noqa: S102  # our own documents
    assert "print(" not in script or capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [one for one in COMMANDS if " FILE" not in one and "[" not in one]
)
def test_shell_examples_run(command: str, project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with contextlib.chdir(project):
        assert cli.main(shlex.split(command)[1:]) == 0
    found = capfd.readouterr()
    assert found.out and not NOTE.sub("", found.err)
