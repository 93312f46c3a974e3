"""`charlstm recipe` and the recipe of parameters."""

import difflib
import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from charlstm.files.documents import load_yaml
from charlstm.params import Params, load_params
from pipeline.recipes import CORPORA, RECIPES, Kind, Recipe, load, names, recipe_of, with_values
from tests.support.commands import Run
from tests.support.projects import ROOT, compose, shipped_params

SHIPPED = shipped_params()
RECIPE_VALUES = load(RECIPES, RECIPES.root).values
CORPUS_VALUES = load(CORPORA, CORPORA.root).values


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project, which is the current folder."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "dvc.yaml").touch()
    (folder / "params.yaml").write_text(SHIPPED)
    monkeypatch.chdir(folder)
    return folder


def edit(project: Path, before: str, after: str) -> None:
    text = (project / "params.yaml").read_text()
    assert before in text
    (project / "params.yaml").write_text(text.replace(before, after, 1))


@pytest.mark.parametrize("name", names(RECIPES))
def test_each_shipped_recipe_is_recognized(name: str) -> None:
    assert recipe_of(compose(ROOT, [f"recipe={name}"])) == Recipe(name, {})


@pytest.mark.parametrize("kind", [RECIPES, CORPORA])
def test_every_preset_decides_the_same_parameters(kind: Kind) -> None:
    """A preset replaces all values of the previous preset."""
    root = load(kind, kind.root)
    found = [load(kind, name) for name in names(kind)]
    assert len(found) >= 2 and set(root.values) <= set(Params.names())
    assert all(list(preset.values) == list(root.values) for preset in found)
    assert not RECIPE_VALUES.keys() & CORPUS_VALUES.keys()
    assert all(name.startswith(("model.", "train.")) for name in RECIPE_VALUES)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in (RECIPES, CORPORA) for name in names(kind)]
)
def test_a_preset_and_back_leaves_the_file_as_it_was(kind: Kind, name: str, tmp_path: Path) -> None:
    """DVC, too, writes the file in the same form, so that an experiment changes only its values."""
    text = with_values(SHIPPED, load(kind, name).values)
    assert with_values(text, {**RECIPE_VALUES, **CORPUS_VALUES}) == SHIPPED
    path = tmp_path / "params.yaml"
    path.write_text(text)
    apply_overrides(path, ["train.seed=1"])
    assert path.read_text() == text
    apply_overrides(path, ["train.seed=5"])
    lines = difflib.ndiff(text.splitlines(), path.read_text().splitlines())
    assert [line for line in lines if line[0] in "+-"] == ["-   seed: 1", "+   seed: 5"]


@pytest.mark.parametrize(
    "value", ["é\u2028 #:-'\"\n\t\f" + "long " * 30, "1", "null", [" a\n", "b"], None]
)
def test_any_value_is_written_and_read(value: object, tmp_path: Path) -> None:
    values = {"download.encoding": value, "sample.prompts": value, "download.source": value}
    (tmp_path / "params.yaml").write_text(with_values(SHIPPED, values))
    document = load_yaml(tmp_path / "params.yaml")
    assert [document["download"][name] for name in ("encoding", "source")] == [value, value]
    assert document["sample"]["prompts"] == value


def test_a_recipe_is_written_and_quick_brings_the_file_back(run: Run, project: Path) -> None:
    (project / "params.yaml").rename(project / "shared.yaml")
    (project / "params.yaml").symlink_to("shared.yaml")
    for name in ("best", "original"):
        assert run("recipe", name)[0] == 0
        assert recipe_of(load_params(project / "params.yaml")) == Recipe(name, {})
    (chosen,) = [line for line in run("recipe")[1].splitlines() if line.startswith("*")]
    assert chosen.startswith("* original: ")
    code, out, _ = run("recipe", "quick")
    assert code == 0 and "  model.num_layers 2 -> 1" in out
    assert (project / "params.yaml").is_symlink()
    assert (project / "shared.yaml").read_text() == SHIPPED
    assert "unchanged" in run("recipe", "quick")[1]


def test_what_was_edited_is_named_before_it_would_be_lost(run: Run, project: Path) -> None:
    edit(project, "hidden_size: 320", "hidden_size: 512")
    edit(project, "epochs: 2", "epochs: many")
    before = (project / "params.yaml").read_bytes()
    code, _, log = run("recipe", "best")
    # best has 512 units, too
    assert code == 2 and "params.yaml is quick with epochs many: no recipe has these" in log
    assert (project / "params.yaml").read_bytes() == before
    assert run("recipe", "best", "--force")[0] == 0
    assert load_params(project / "params.yaml").train.epochs == 20, "a mistake is mended, too"


def test_what_stands_there_is_kept_as_a_recipe(run: Run, project: Path) -> None:
    assert run("recipe", "best")[0] == 0
    edit(project, "hidden_size: 512", "hidden_size: 96")
    code, out, _ = run("recipe", "save", "thin")
    assert code == 0 and out == "conf/recipe/thin.yaml: best with hidden_size 96\n"
    assert recipe_of(load_params(project / "params.yaml")) == Recipe("thin", {})
    edit(project, "epochs: 20", "epochs: 4")
    code, _, log = run("recipe", "save", "thin")
    assert code == 2 and "conf/recipe/thin.yaml already exists" in log
    assert run("recipe", "save", "thin", "--force")[0] == 0
    assert recipe_of(load_params(project / "params.yaml")) == Recipe("thin", {})


def test_mistakes_change_nothing(run: Run, project: Path) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    for arguments in (["bset"], ["save", "quick", "--force"], ["save", "A b"], ["save"]):
        code, out, log = run("recipe", *arguments)
        assert (code, out) == (2, "") and len(log.splitlines()) == 1
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before
