"""`charlstm recipe` and `charlstm corpus`; and that what `params.yaml` says is what runs, whoever wrote it."""

import re
import shutil
from pathlib import Path

import pytest
from commands import Run
from stages import dvc, run_dvc, start_dvc

from benchmarks.projects import ROOT, shipped_params
from charlstm.params import load_params
from pipeline.stage.presets import RECIPES, Recipe, load, recipe_of

STAGES = (
    "stages:\n  train:\n    cmd: cp params.yaml trained.yaml\n    params: [model, train]\n    outs: [trained.yaml]\n"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which nothing has run, the current folder. Its train stage only keeps the parameters that it got."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "dvc.yaml").write_text(STAGES)
    (folder / "params.yaml").write_text(shipped_params())
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def recorded(project: Path) -> Path:
    """The same in git and DVC, as the repository sets DVC up."""
    start_dvc(project)
    shutil.copy(ROOT / ".dvc/config", project / ".dvc")
    commit(project)
    return project


def commit(project: Path) -> None:
    dvc(project, "git", "add", "-A")
    dvc(project, "git", "commit", "-qm", "some commit")


def edit(project: Path, before: str, after: str) -> None:
    text = (project / "params.yaml").read_text()
    assert before in text
    (project / "params.yaml").write_text(text.replace(before, after, 1))


def test_the_list_says_what_each_would_change(run: Run, project: Path) -> None:
    edit(project, "epochs: 2", "epochs: 3")
    (project / "conf/recipe/own.yaml").write_text("# Two layers.\nbuilds_on: quick\nmodel: {num_layers: 2}\n")
    code, out, _ = run("recipe")
    lines = out.splitlines()
    assert code == 0 and lines[0] == "params.yaml: corpus tiny-shakespeare, recipe quick · epochs 3"
    assert lines[lines.index("  own: Two layers") + 1].strip() == "num_layers 1 -> 2, epochs 3 -> 2"
    code, out, _ = run("corpus")
    assert code == 0 and "* tiny-shakespeare: " in out


def test_a_damaged_recipe_is_listed_with_its_mistake(run: Run, project: Path) -> None:
    (project / "conf/recipe/own.yaml").write_text("model: {hiden_size: 3}\n")
    code, out, _ = run("recipe")
    assert code == 0 and "did you mean model.hidden_size?" in " ".join(out.split())


def test_each_recipe_is_written_and_quick_brings_the_file_back(run: Run, project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    for name in ("best", "original"):
        assert run("recipe", name)[0] == 0
        assert recipe_of(load_params(project / "params.yaml")) == Recipe(name, {})
    code, out, _ = run("recipe", "quick")
    assert code == 0 and "  model.num_layers 2 -> 1" in out
    assert (project / "params.yaml").read_bytes() == before
    assert "as it was" in run("recipe", "quick")[1]


def test_what_was_edited_is_named_before_it_would_be_lost(run: Run, project: Path) -> None:
    edit(project, "hidden_size: 320", "hidden_size: 512")
    edit(project, "epochs: 2", "epochs: 3")
    before = (project / "params.yaml").read_bytes()
    code, _, log = run("recipe", "best")
    assert code == 2 and "params.yaml is quick with epochs 3: no recipe has that" in log  # best has 512 units, too
    assert (project / "params.yaml").read_bytes() == before
    assert run("recipe", "best", "--force")[0] == 0


def test_a_mistake_in_the_parameters_is_mended_by_a_recipe(run: Run, project: Path) -> None:
    edit(project, "epochs: 2", "epochs: many")
    assert "epochs many" in run("recipe", "original")[2]
    assert run("recipe", "quick", "--force")[0] == 0
    assert load_params(project / "params.yaml").train.epochs == 2
    edit(project, "name: shakespear", "name: 2024-01-01")  # to YAML, a date
    assert 'download.name "2024-01-01"' in run("corpus", "tiny-shakespeare")[2]
    assert run("corpus", "tiny-shakespeare", "--force")[0] == 0


def test_a_section_that_became_a_value_is_one_line(run: Run, project: Path) -> None:
    """As `dvc exp run -S train.dropout=0.2` leaves it."""
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(re.sub(r"^  dropout:\n(    .*\n)+", "  dropout: 0.2\n", text, flags=re.M))
    before = (project / "params.yaml").read_bytes()
    for arguments in (("quick",), ("quick", "--force"), ("best", "--force")):
        code, out, log = run("recipe", *arguments)
        assert (code, out) == (2, "") and "params.yaml" in log and "dropout." in log and len(log.splitlines()) == 1
    assert (project / "params.yaml").read_bytes() == before


def test_a_commit_with_marks_of_a_conflict_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.commands.recipe.find_commit", lambda name: name)
    monkeypatch.setattr("pipeline.commands.recipe.git", lambda *words: "train:\n<<<<<<< HEAD\n  seed: [1\n")
    code, _, err = run("recipe", "save", "own", "abc")
    assert code == 2 and "abc:params.yaml: " in err and len(err.splitlines()) == 1


def test_what_stands_there_is_kept_as_a_recipe(run: Run, project: Path) -> None:
    assert run("recipe", "best")[0] == 0
    edit(project, "hidden_size: 512", "hidden_size: 96")
    code, out, _ = run("recipe", "save", "thin")
    assert code == 0 and out == "conf/recipe/thin.yaml: best with hidden_size 96\n"
    assert load(RECIPES, "thin").chain == ("thin", "quick"), "it stays as it is when another one changes"
    assert recipe_of(load_params(project / "params.yaml")) == Recipe("thin", {})
    edit(project, "epochs: 20", "epochs: 4")
    (project / "conf/recipe/link.yaml").symlink_to("nowhere")
    for name in ("thin", "link"):
        code, _, log = run("recipe", "save", name)
        assert code == 2 and f"conf/recipe/{name}.yaml is there already" in log
    (project / "conf/recipe/link.yaml").unlink()
    assert run("recipe", "save", "thin", "--force")[0] == 0
    assert recipe_of(load_params(project / "params.yaml")) == Recipe("thin", {})


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["bset"], "there is no recipe 'bset', did you mean best?; there are best, large, original"),
        (["save", "quick", "--force"], "all other recipes build on it"),
        (["save", "A b"], "expected a name of small letters"),
        (["save", "save"], "expected a name"),
        (["save"], "expected NAME, or save NAME [EXPERIMENT], got save"),
        (["best", "quick"], "expected NAME"),
        (["save", "own", "inert-kefs"], "'inert-kefs' is no commit and no DVC experiment"),
    ],
)
def test_mistakes_are_one_line(run: Run, project: Path, arguments: list[str], error: str) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    code, out, log = run("recipe", *arguments)
    assert (code, out) == (2, "") and error in log and len(log.splitlines()) == 1
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_an_applied_experiment_stays_when_another_one_begins_from_it(recorded: Path, run: Run) -> None:
    dvc(recorded, "exp", "run", "-n", "shorter", "-S", "train.epochs=1", "-S", "model.hidden_size=64")
    dvc(recorded, "git", "checkout", "-q", "params.yaml")
    dvc(recorded, "exp", "apply", "shorter")
    assert run("recipe", "save", "shorter", "shorter")[0] == 0
    commit(recorded)
    dvc(recorded, "exp", "run", "-n", "other-seed", "-S", "train.seed=5")
    trained = load_params(recorded / "trained.yaml")
    assert (trained.train.seed, trained.train.epochs, trained.model.hidden_size) == (5, 1, 64)
    assert recipe_of(trained) == Recipe("shorter", {})
    assert (recorded / "params.yaml").read_text() == shipped_params().replace("  epochs: 2", "  epochs: 1").replace(
        "hidden_size: 320", "hidden_size: 64"
    ).replace("  seed: 1\n", "  seed: 5\n")


def test_what_is_edited_is_what_runs(recorded: Path) -> None:
    """Also for a queue of experiments, which begin from the edited file."""
    edit(recorded, "hidden_size: 320", "hidden_size: 32")
    dvc(recorded, "repro")
    assert load_params(recorded / "trained.yaml").model.hidden_size == 32
    dvc(recorded, "exp", "run", "--temp", "-n", "grid", "-S", "train.seed=7")
    text = dvc(recorded, "git", "show", "refs/exps/" + ref_of(recorded, "grid") + ":params.yaml")
    (recorded / "of-grid.yaml").write_text(text)
    params = load_params(recorded / "of-grid.yaml")
    assert (params.model.hidden_size, params.train.seed) == (32, 7)


def ref_of(project: Path, name: str) -> str:
    (ref,) = dvc(project, "git", "for-each-ref", "--format=%(refname)", f"refs/exps/*/*/{name}").split()
    return ref.removeprefix("refs/exps/")


def test_an_unknown_parameter_is_refused_at_once_and_changes_nothing(recorded: Path) -> None:
    done = run_dvc(recorded, "exp", "run", "-S", "train.learningrate=0.1")
    assert done.returncode != 0 and "train.learningrate" in done.stderr
    assert (recorded / "params.yaml").read_text() == shipped_params()
