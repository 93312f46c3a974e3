"""The command line: its help, and how it fails."""

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline import cli
from tests.support.commands import Run
from tests.support.projects import ROOT

COMMANDS = [name for commands in cli.COMMANDS.values() for name in commands]


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"charlstm {version('charlstm')}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    assert f"charlstm {command}" in capsys.readouterr().out


def test_the_command_line_imports_none_of_what_commands_need() -> None:
    heavy = {"torch", "mlflow", "pandas", "accelerate", "matplotlib", "dvc", "onnx", "onnxruntime"}
    light = "pipeline.cli, pipeline.launch, pipeline.commands.trace, pipeline.commands.reproduce"
    code = f"import sys, {light}; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_wrong_usage_is_one_line(run: Run) -> None:
    for arguments in (["nothing"], ["--nothing"], ["trace", "a", "b"], ["reproduce"]):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        (line,) = err.splitlines()
        assert line.startswith("ERROR: ")


def test_outside_of_a_project_it_says_what_to_do(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    advice = {"trace": "change to a project's folder", "generate": "expected a model"}
    for command, said in advice.items():
        code, _, err = run(command)
        assert (code, err.count("\n")) == (2, 1) and said in err


def test_commands_find_the_project_from_any_folder_in_it(
    run: Run, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths in arguments are relative to the user's folder."""
    project = shutil.copytree(recorded, tmp_path / "project")
    monkeypatch.chdir(project)
    at_root = [run("info"), run("trace", "HEAD"), run("generate", "def ", "--seed", "1")]
    (project / "own/folder").mkdir(parents=True)
    monkeypatch.chdir(project / "own/folder")
    assert [run("info"), run("trace", "HEAD"), run("generate", "def ", "--seed", "1")] == at_root
    (project / "only-here.txt").write_text("a text in the root, not in the user's folder" * 50)
    assert "only-here.txt: there is no such file" in run("new", "only-here.txt")[2]
    Path("text.txt").write_text("def ")
    assert run("generate", "--prompt-file", "text.txt", "--seed", "1") == at_root[2]
    file = "../../artifacts/samples/review.json"
    assert run("review", file)[0] == 0 and Path("review.html").is_file()
