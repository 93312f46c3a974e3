"""`charlstm new`: the files that it writes, and those that it never writes over."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from commands import Run
from stages import blank_project, start_dvc

from benchmarks.projects import shipped_params
from charlstm.files.lock import exclusive
from charlstm.params import load_params
from pipeline.dvc.unfinished import CHECKOUT
from pipeline.new import corpus
from pipeline.new.budget import Request, Speed
from pipeline.new.source import name_of
from pipeline.stage.presets import CORPORA, Recipe, as_written, nearest, recipe_of

TEXT = "It is a truth universally acknowledged.\n" * 50


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which nothing has run, the current folder, with a text."""
    folder = blank_project(tmp_path / "project")
    (folder / "Pride.txt").write_text(TEXT)
    monkeypatch.chdir(folder)
    return folder


def test_the_parameters_are_those_of_the_text_and_its_size(run: Run, project: Path) -> None:
    code, out, _ = run("new", "Pride.txt")
    assert code == 0 and out.splitlines()[-1] == "next: dvc repro"
    params = load_params(project / "params.yaml")
    assert params.download.name == "pride"
    assert params.download.source == params.download.watch == str(project / "Pride.txt")
    assert params.sample.prompts == "auto"
    assert recipe_of(params) == Recipe("pride", {})
    assert nearest(CORPORA, params.values()) == Recipe("pride", {})


def test_a_text_is_where_the_user_is(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one of that name in the project's root, nor what a link leads to."""
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    code, _, err = run("new", "Pride.txt")
    assert code == 2 and f"{project}/below/Pride.txt" in err
    Path("latest.txt").symlink_to(project / "Pride.txt")
    assert run("new", "latest.txt")[0] == 0
    assert load_params(project / "params.yaml").download.source == f"{project}/below/latest.txt"
    assert run("new", "tiny-shakespeare")[0] == 0


def test_back_to_tiny_shakespeare_and_back_again(run: Run, project: Path) -> None:
    before = (project / "params.yaml").read_text()
    assert run("new", "Pride.txt")[0] == 0
    mine = (project / "params.yaml").read_text()
    assert run("new", "tiny-shakespeare")[0] == 0
    assert (project / "params.yaml").read_text() == before == shipped_params()
    assert run("new", "pride")[0] == 0
    assert (project / "params.yaml").read_text() == mine


def test_the_same_text_keeps_its_name_and_another_gets_one_of_its_own(run: Run, project: Path) -> None:
    (project / "other").mkdir()
    (project / "other/pride.txt").write_text(TEXT)
    (project / "best.txt").write_text(TEXT)
    cases = {
        "Pride.txt": "pride",
        "other/pride.txt": "pride-2",
        "best.txt": "best-2",
    }
    for text, name in cases.items():
        assert run("new", text)[0] == 0
        assert load_params(project / "params.yaml").download.name == name
    assert run("new", "Pride.txt", "--name", "austen")[0] == 0
    assert load_params(project / "params.yaml").download.name == "austen"


def test_several_files_keep_their_name_and_others_get_one_of_their_own(run: Run, project: Path) -> None:
    for folder in ("poems", "novels"):
        (project / folder).mkdir()
        for name in ("1.txt", "2.txt"):
            (project / folder / name).write_text(f"{folder}\n{TEXT}")
    for folder, name in {"poems": "text-1", "novels": "text-1-2"}.items():
        for _ in range(2):
            assert run("new", f"{folder}/1.txt", f"{folder}/2.txt")[0] == 0
            assert load_params(project / "params.yaml").download.name == name
    links = project / "Datasets/sources/text-1"
    assert [link.readlink() for link in sorted(links.iterdir())] == [project / "poems/1.txt", project / "poems/2.txt"]
    code, _, err = run("new", "novels/1.txt", "novels/2.txt", "--name", "text-1")
    assert code == 2 and "it is of another text, and stays" in err


def test_a_recipe_that_a_text_no_longer_needs_goes(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("new", "Pride.txt")[0] == 0
    recipe = project / "conf/recipe/pride.yaml"
    assert recipe.exists()
    (project / "Pride.txt").write_text(TEXT * 700)  # for which quick is as it should be
    code, out, _ = run("new", "Pride.txt")
    assert code == 0 and f"replaced: {recipe.relative_to(project)}" in out.replace("conf/corpus/pride.yaml ", "")
    assert not recipe.exists() and recipe_of(load_params(project / "params.yaml")).name == "quick"
    assert run("new", "tiny-shakespeare")[0] == run("new", "pride")[0] == 0
    assert recipe_of(load_params(project / "params.yaml")).name == "quick"


def test_with_force_a_damaged_file_is_written_over(run: Run, project: Path) -> None:
    assert run("new", "Pride.txt")[0] == 0
    mine = project / "conf/corpus/pride.yaml"
    mine.write_bytes(b"# caf\xe9\n" + mine.read_bytes())
    assert run("new", "Pride.txt", "--name", "pride")[0] == 2
    code, out, _ = run("new", "Pride.txt", "--name", "pride", "--force")
    assert code == 0 and "caf" not in mine.read_text()


def tree(project: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}


@pytest.mark.parametrize("file", ["corpus/pride.yaml", "recipe/pride.yaml"])
def test_an_edited_file_is_not_written_over(run: Run, project: Path, file: str) -> None:
    assert run("new", "Pride.txt")[0] == 0
    path = project / "conf" / file
    path.write_text(path.read_text().replace("epochs: 60", "epochs: 50") + "# mine\n")  # not in its path
    before = tree(project)
    code, _, log = run("new", "Pride.txt")
    assert code == 2 and f"conf/{file}: it was edited" in log and "--force" in log
    assert tree(project) == before
    assert run("new", "Pride.txt", "--force")[0] == run("new", "Pride.txt")[0] == 0
    assert "# mine" not in path.read_text()
    path.write_text(f": [ damaged\n{path.read_text()}")
    assert run("new", "Pride.txt", "--name", "pride", "--force")[0] == 0 and "damaged" not in path.read_text()


def test_what_is_of_another_text_is_not_written_over(run: Run, project: Path) -> None:
    (project / "other.txt").write_text(TEXT * 2)
    assert run("new", "Pride.txt")[0] == 0
    before = tree(project)
    code, _, log = run("new", "other.txt", "--name", "pride")
    assert code == 2 and "conf/corpus/pride.yaml: it is of another text, and stays" in log
    assert tree(project) == before
    (project / "Pride.txt").write_text(TEXT * 3)  # the same file, which has grown
    assert run("new", "Pride.txt")[0] == 0


def test_a_training_that_began_while_steps_were_timed(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as stack:

        def measure(requests: Sequence[Request], vocab_size: int) -> list[Speed]:
            stack.enter_context(exclusive(CHECKOUT, "a training in this checkout"))
            return [Speed(0.01, 1e6) for _ in requests]

        monkeypatch.setattr(corpus, "measure", measure)
        before = (project / "params.yaml").read_bytes()
        code, _, log = run("new", "Pride.txt", "--minutes", "0.5")
    assert code == 2 and "a training in this checkout is under way" in log
    assert (project / "params.yaml").read_bytes() == before and not (project / "conf/corpus/pride.yaml").exists()


@pytest.mark.parametrize("name", ["warpeace", "quick", "tiny-shakespeare"])
def test_a_file_that_the_project_came_with_is_never_written_over(run: Run, project: Path, name: str) -> None:
    before = tree(project)
    code, _, log = run("new", "Pride.txt", "--name", name, "--force")
    assert code == 2 and f"/{name}.yaml: it was not written by `charlstm new`" in log
    assert tree(project) == before


@pytest.mark.parametrize(
    ("edit", "lost", "command"),
    [
        (("hidden_size: 320", "hidden_size: 128"), "quick with hidden_size 128", "recipe"),
        (("test_fraction: 0.0", "test_fraction: 0.2"), "tiny-shakespeare with split.test_fraction 0.2", "corpus"),
    ],
)
@pytest.mark.parametrize("arguments", [["Pride.txt"], ["tiny-shakespeare"]])
def test_a_choice_in_the_parameters_is_not_lost(
    run: Run, project: Path, edit: tuple[str, str], lost: str, command: str, arguments: list[str]
) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace(*edit))
    before = tree(project)
    code, _, log = run("new", *arguments)
    assert code == 2 and lost in log and f"`charlstm {command} save NAME`" in log
    assert tree(project) == before
    assert run(command, "save", "mine")[0] == 0
    assert run("new", *arguments)[0] == 0
    path.write_text(before[path].decode())
    (project / f"conf/{command}/mine.yaml").unlink()
    assert run("new", *arguments, "--force")[0] == 0


def test_what_no_preset_decides_stays(run: Run, project: Path) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("  seed: 1\n", "  seed: 7  # mine\n"))
    assert run("new", "Pride.txt")[0] == 0
    assert "  seed: 7  # mine\n" in path.read_text()


@pytest.mark.parametrize("command", [["new", "Pride.txt"], ["new", "tiny-shakespeare"], ["recipe", "best"]])
def test_nothing_is_changed_while_a_training_is_under_way(run: Run, project: Path, command: list[str]) -> None:
    before = tree(project)
    with exclusive(CHECKOUT, "a training in this checkout"):
        code, _, log = run(*command)
    assert code == 2 and "a training in this checkout is under way" in log
    assert {path: content for path, content in tree(project).items() if ".charlstm" not in path.parts} == before


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
        ("Save", "text-save"),
    ],
)
def test_a_name_is_one_that_yaml_reads_as_a_text(stem: str, name: str) -> None:
    assert name_of(stem) == name == name_of(name)


def test_mistakes_are_told_in_a_line(run: Run, project: Path) -> None:
    (project / "artifacts").mkdir()
    (project / "artifacts/text.txt").write_text(TEXT)
    for arguments, error in (
        (["Pride.txt", "--name", "A b"], "--name: expected small letters, digits, - and _, got 'A b'; a-b would do"),
        (["Pride.txt", "--documents"], "expected several files"),
        (["Pride.txt", "--encoding", "cp0"], "expected a text encoding"),
        (["Pride.txt", "--encoding", ""], "expected a text encoding"),
        (["tiny-shakespeare", "--documents"], "--documents: expected a text to go with it, got the corpus tiny-shake"),
        (["tiny-shakespeare", "--minutes", "9"], "name its source, https://"),
        (["tiny-shakespeare", "Pride.txt"], "expected one corpus by its name, or files, got tiny-shakespeare among 2"),
        (["tiny-shakspeare"], "did you mean tiny-shakespeare?; corpora are "),
        (["artifacts"], "expected a text outside of artifacts, which the project writes"),
        (["artifacts/text.txt"], "expected a text outside of artifacts"),
        (["conf"], "expected a text outside of conf"),
        (["."], "expected a text outside of "),
    ):
        code, out, log = run("new", *arguments)
        assert (code, out) == (2, "") and error in log and len(log.splitlines()) == 1


def test_a_proposal_that_is_replaced_is_told(run: Run, project: Path, learned: Path) -> None:
    start_dvc(project)
    for _ in range(2):
        assert "replaced" not in run("new", "Pride.txt")[1]
    (line,) = (line for line in run("new", "Pride.txt", "--from", str(learned))[1].splitlines() if "replaced" in line)
    assert "conf/recipe/pride.yaml" in line and "with another --name, both would be there" in line


def plan_quickly(monkeypatch: pytest.MonkeyPatch, steps_per_second: float) -> None:
    def measure(requests: Sequence[Request], vocab_size: int) -> list[Speed]:
        return [Speed(1 / steps_per_second, 1e6) for _ in requests]

    monkeypatch.setattr(corpus, "measure", measure)


def test_a_training_is_proposed_for_a_time(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan_quickly(monkeypatch, 100)
    code, out, _ = run("new", "Pride.txt", "--minutes", "0.5")
    assert code == 0 and "training takes 0:" in out and "10 ms a step were measured" in out
    assert "in the same language (--from MODEL) may help more than time" in out
    params = load_params(project / "params.yaml")
    assert recipe_of(params) == Recipe("pride", {})
    plan_quickly(monkeypatch, 10_000)
    before = tree(project)
    code, out, _ = run("new", "Pride.txt", "--minutes", "0.5")  # as one that was interrupted is begun again
    assert code == 0 and "10 ms a step were measured" in out and "as it was planned before" in out
    assert tree(project) == before
    code, out, _ = run("new", "Pride.txt", "--minutes", "0.5", "--force")
    assert code == 0 and "0 ms a step were measured" in out and "the rest of the time would not help" in out
    before = tree(project)
    recipe = project / "conf/recipe/pride.yaml"
    older = recipe.read_text().partition("# Written by")[0] + "  no_parameter_any_more: 1\n"
    recipe.write_text(as_written(older))
    assert run("new", "tiny-shakespeare", "--force")[0] == 0
    code, out, _ = run("new", "Pride.txt", "--minutes", "0.5")
    assert code == 0 and "as it was planned before" not in out
    assert tree(project) == before
    plan_quickly(monkeypatch, 0.01)
    before = tree(project)
    code, _, log = run("new", "Pride.txt", "--minutes", "0.5", "--force")
    assert code == 2 and "--minutes 0.5 is too short" in log
    assert tree(project) == before


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "a", "10001"])
def test_minutes_are_a_time(run: Run, project: Path, minutes: str) -> None:
    before = tree(project)
    code, _, log = run("new", "Pride.txt", "--minutes", minutes)
    assert code == 2 and "--minutes" in log and len(log.splitlines()) == 1
    assert tree(project) == before
