"""`charlstm new`: the files that it writes, and those that it never writes over."""

import shutil
from pathlib import Path

import pytest
from commands import Run

from benchmarks.projects import ROOT, shipped_params
from charlstm.errors import ParamsError
from charlstm.params import load_params
from pipeline.common.composing import compose
from pipeline.new.conf_files import is_ours, select
from pipeline.new.sources import name_of
from pipeline.new.writing import write_all

TEXT = "It is a truth universally acknowledged.\n" * 50
SHIPPED = (ROOT / "conf/config.yaml").read_text()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which nothing has run, the current folder, with a text."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "conf", folder / "conf")
    shutil.copy(ROOT / "dvc.yaml", folder)
    (folder / "params.yaml").write_text(shipped_params())
    (folder / "Pride.txt").write_text(TEXT)
    monkeypatch.chdir(folder)
    return folder


def test_the_parameters_are_what_dvc_would_compose(run: Run, project: Path) -> None:
    code, out, _ = run("new", "Pride.txt")
    assert code == 0 and out.splitlines()[-1] == "next: dvc repro"
    assert (project / "params.yaml").read_text() == compose(project / "conf").text
    params = load_params(project / "params.yaml")
    assert params.download.name == "pride"
    assert params.download.source == params.download.watch == str(project / "Pride.txt")
    assert params.train.text_prompts == params.sample.prompts == "auto"
    assert (project / "conf/config.yaml").read_text() == SHIPPED.replace("tiny-shakespeare", "pride").replace(
        "recipe: quick", "recipe: pride"
    )


def test_back_to_tiny_shakespeare_and_back_again(run: Run, project: Path) -> None:
    before = (project / "params.yaml").read_text()
    assert run("new", "Pride.txt")[0] == 0
    mine = (project / "params.yaml").read_text()
    assert run("new", "tiny-shakespeare")[0] == 0
    assert (project / "params.yaml").read_text() == before == shipped_params()
    assert (project / "conf/config.yaml").read_text() == SHIPPED
    assert run("new", "pride")[0] == 0
    assert (project / "params.yaml").read_text() == mine


def test_the_same_text_keeps_its_name_and_another_gets_one_of_its_own(run: Run, project: Path) -> None:
    (project / "other").mkdir()
    (project / "other/pride.txt").write_text(TEXT)
    for text, name in (("Pride.txt", "pride"), ("Pride.txt", "pride"), ("other/pride.txt", "pride-2")):
        assert run("new", text)[0] == 0
        assert load_params(project / "params.yaml").download.name == name
    assert run("new", "Pride.txt", "--name", "austen")[0] == 0
    assert load_params(project / "params.yaml").download.name == "austen"


@pytest.mark.parametrize("file", ["corpus/pride.yaml", "recipe/pride.yaml"])
def test_an_edited_file_is_not_written_over(run: Run, project: Path, file: str) -> None:
    assert run("new", "Pride.txt")[0] == 0
    path = project / "conf" / file
    path.write_text(path.read_text().replace("60", "50") + "# mine\n")
    before = {one: one.read_bytes() for one in project.rglob("*") if one.is_file()}
    code, _, log = run("new", "Pride.txt")
    assert code == 2 and f"conf/{file}: it was edited" in log and "--force" in log
    assert {one: one.read_bytes() for one in project.rglob("*") if one.is_file()} == before
    assert run("new", "Pride.txt", "--force")[0] == 0
    assert is_ours(path)
    code, _, log = run("new", "Pride.txt", "--name", "warpeace")
    assert code == 2 and "conf/corpus/warpeace.yaml: it was edited, or written by somebody else" in log


def test_all_files_are_written_or_none(project: Path) -> None:
    (project / "first").write_text("as it was")
    (project / "folder").mkdir()
    with pytest.raises(OSError):
        write_all({Path("first"): "new", Path("second"): "new", Path("folder"): "no file"}, Path("links"), [Path("a")])
    assert (project / "first").read_text() == "as it was"
    assert not (project / "second").exists() and not (project / "links").exists()


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("Pride & Prejudice (1813)", "pride-prejudice-1813"),
        ("Élégies", "elegies"),
        ("Война и мир", "text"),
        ("1984", "text-1984"),
        ("no", "text-no"),
        ("..", "text"),
        ("x" * 99, "x" * 40),
    ],
)
def test_a_name_is_one_that_yaml_reads_as_a_text(stem: str, name: str) -> None:
    assert name_of(stem) == name == name_of(name)


def test_mistakes_are_told_in_a_line(run: Run, project: Path) -> None:
    (project / "conf/config.yaml").write_text(SHIPPED.replace("  - corpus: tiny-shakespeare\n", ""))
    for arguments, error in (
        (["Pride.txt"], "expected one line `- corpus: NAME`"),
        (["Pride.txt", "--name", "A b"], "--name: expected small letters, digits, - and _, got 'A b'; a-b would do"),
        (["Pride.txt", "--documents"], "expected several files"),
        (["Pride.txt", "--encoding", "cp0"], "expected a text encoding"),
        (["nothing"], "No such file"),
    ):
        code, out, log = run("new", *arguments)
        assert (code, out) == (2, "") and error in log and len(log.splitlines()) == 1
    with pytest.raises(ParamsError, match="found 2"):
        select(SHIPPED.replace("recipe: quick", "recipe: quick\n  - recipe: quick"), "a", "b")
