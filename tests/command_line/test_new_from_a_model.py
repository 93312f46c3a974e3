"""`charlstm new --from MODEL`: which model a text begins from, and what is said of it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Run
from disks import BYTES, needs_root, small_disk
from stages import blank_project, dvc, start_dvc

from charlstm.model.model_folder import load_model, save_model
from charlstm.model.shape import CONFIG, WEIGHTS
from charlstm.params import NOTHING, load_params
from charlstm.text.vocabulary import VOCAB
from charlstm.training.needs import shape_of
from pipeline.dvc.paths import load_paths
from pipeline.dvc.record import md5
from pipeline.stage.presets import Recipe, recipe_of

IDS_MD5 = "c" * 32 + ".dir"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in DVC and git in which nothing has run, the current folder, with a text."""
    folder = blank_project(tmp_path / "project")
    (folder / "Pride.txt").write_text("It is a truth universally acknowledged.\n" * 50)
    start_dvc(folder)
    monkeypatch.chdir(folder)
    return folder


def test_a_text_begins_from_a_model(run: Run, project: Path, learned: Path) -> None:
    code, out, err = run("new", "Pride.txt", "--from", str(learned))
    assert code == 0, err
    assert "--from MODEL" not in out
    params, shape = load_params(project / "params.yaml"), load_model(learned, "gates").model.shape
    kept = project / params.train.initial
    assert "begins from" in out and kept.parent == project / "conf/initial"
    assert shape_of(params.model, shape.vocab_size) == shape
    assert all((kept / name).read_bytes() == (learned / name).read_bytes() for name in (CONFIG, VOCAB, WEIGHTS))
    assert kept.with_suffix(".dvc").is_file()  # for git; the model is in DVC's cache
    assert dvc(project, "git", "status", "--porcelain", "-uall", "conf/initial").split() == [
        "??", "conf/initial/.gitignore", "??", f"{params.train.initial}.dvc",
    ]  # fmt: skip
    assert recipe_of(params) == Recipe("pride", {})
    assert run("recipe", "quick")[0] == 0  # a recipe begins from nothing
    assert load_params(project / "params.yaml").train.initial == NOTHING


@pytest.mark.parametrize(
    ("trained", "is_known"),
    [
        (lambda text: f"before {text} after", True),
        (lambda text: text[-len(text) // 10 :], True),
        (lambda text: text[: 9 * len(text) // 10], False),  # what is held out here was held out there
        (lambda text: text[::-1], False),
    ],
)
def test_a_model_that_was_trained_on_the_end_of_this_text_is_told(
    run: Run, project: Path, learned: Path, trained: Callable[[str], str], is_known: bool
) -> None:
    paths = load_paths(project / "dvc.yaml")
    shutil.copytree(learned, project / paths.model)
    (project / paths.split).mkdir(parents=True)
    text = "".join(f"On page {number} is the square {number**2}.\n" for number in range(100))
    (project / "Pride.txt").write_text(text)
    (project / paths.split / "train.txt").write_text(trained(text))
    code, out, err = run("new", "Pride.txt", "--from", str(paths.model))
    assert code == 0, err
    assert ("was trained on the end of this text: no loss here will be one of new text" in out) == is_known


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Pride.txt", "--from", "nowhere"], "nowhere: expected a model, which is a folder with config.json"),
        (["Pride.txt", "--from", "models:/nothing@champion"], "there is no such MLflow database"),
        (["tiny-shakespeare", "--from", "nowhere"], "--from: expected a text"),
    ],
)
def test_no_model_to_begin_from(run: Run, project: Path, arguments: list[str], words: str) -> None:
    before = (project / "params.yaml").read_text()
    code, _, err = run("new", *arguments)
    assert code == 2 and words in err and len(err.splitlines()) == 1
    assert (project / "params.yaml").read_text() == before and not (project / "conf/initial").exists()


@needs_root
@pytest.mark.parametrize("num_free", [0, 3 * 4096])
def test_a_cache_that_is_full_is_what_is_said(run: Run, project: Path, learned: Path, num_free: int) -> None:
    """Where there is room for a part, DVC itself exits with 0."""
    shutil.rmtree(project / ".dvc/cache", ignore_errors=True)
    with small_disk(project / ".dvc/cache") as small:
        (small / "filler").write_bytes(bytes(BYTES - num_free))
        code, _, err = run("new", "Pride.txt", "--from", str(learned))
        (line,) = err.splitlines()
        assert code == 2 and "DVC does not take it: ERROR: " in line and "No space left on device" in line
        assert {path.name for path in project.glob("conf/initial/*")} <= {".gitignore"}
        assert not (project / "conf/corpus/pride.yaml").exists()


def test_the_same_command_goes_on_when_the_model_that_it_began_from_is_replaced(
    run: Run, project: Path, learned: Path
) -> None:
    """`new TEXT --from artifacts/model --run` replaces artifacts/model, and may be interrupted after that."""
    paths = load_paths(project / "dvc.yaml")
    shutil.copytree(learned, project / paths.model)
    command = ["new", "Pride.txt", "--from", str(paths.model)]
    assert run(*command)[0] == 0
    planned, before = load_params(project / "params.yaml"), (project / "conf/recipe/pride.yaml").read_text()
    params, trained = (project / "params.yaml").read_text(), load_model(learned, "gates")
    other = {name: weight + 0.01 for name, weight in trained.model.state_dict().items()}
    save_model(project / paths.model, other, trained.model.shape, trained.vocab)
    lock = lock_of("Datasets/pride.txt", planned.train.initial, md5(project / paths.model))
    (project / "dvc.lock").write_text(lock)

    out = run(*command)[1]
    assert "artifacts/model is what this recipe has made, so it begins as before; --force begins from" in out
    assert load_params(project / "params.yaml") == planned and "replaced" not in out
    assert (project / "conf/recipe/pride.yaml").read_text() == before

    for changed in (lock.replace("pride.txt", "other.txt"), lock.replace(IDS_MD5, "d" * 32 + ".dir", 1), None):
        (project / "dvc.lock").write_text(changed or lock)
        assert "begins as before" not in run(*command, *([] if changed else ["--force"]))[1]
        assert load_params(project / "params.yaml").train.initial != planned.train.initial
        (project / "conf/recipe/pride.yaml").write_text(before)
        (project / "params.yaml").write_text(params)


def lock_of(corpus: str, initial: str, model_md5: str) -> str:
    """As DVC has written it when a model of this corpus was trained."""
    text, parts, ids = "a" * 32, "b" * 32 + ".dir", IDS_MD5
    return (
        "schema: '2.0'\nstages:\n"
        f"  split:\n    cmd: a\n    deps: [{{path: {corpus}, md5: {text}}}]\n"
        f"    outs: [{{path: Datasets/split, md5: {parts}}}]\n"
        f"  encode:\n    cmd: a\n    deps: [{{path: Datasets/split, md5: {parts}}}]\n"
        f"    outs: [{{path: Datasets/encoded, md5: {ids}}}]\n"
        f"  train:\n    cmd: a\n    deps: [{{path: Datasets/encoded, md5: {ids}}}]\n"
        f"    params: {{params.yaml: {{train: {{initial: {initial}}}}}}}\n"
        f"    outs: [{{path: artifacts/model, md5: {model_md5}}}]\n"
    )


def test_a_model_of_another_alphabet_is_no_beginning(run: Run, project: Path, learned: Path) -> None:
    known, unknown = "\u0431\u0432\u0433 ", "ea "
    for text, is_warned in ((known * 100 + unknown * 300, False), (known * 300 + unknown * 100, True)):
        (project / "Pride.txt").write_text(text)
        out = run("new", "Pride.txt", "--from", str(learned), "--force")[1]
        assert ("it knows less than half of this text" in out) == is_warned, out
