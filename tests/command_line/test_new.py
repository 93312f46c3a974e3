"""`charlstm new`: proposals for texts, and the files that it writes, replaces or keeps."""

import codecs
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.files.lock import exclusive
from charlstm.model.model_folder import load_model
from charlstm.model.shape import CONFIG, WEIGHTS
from charlstm.params import NOTHING, load_params
from charlstm.text.vocabulary import VOCAB, load_vocab
from charlstm.training.sizes import shape_of
from pipeline.new.text import inspect, name_of
from pipeline.recipes import CORPORA, Recipe, nearest, recipe_of
from pipeline.run.dvc import load_paths
from pipeline.run.project import CHECKOUT
from tests.support.commands import Run
from tests.support.projects import shipped_params
from tests.support.stages import blank_project, dvc, run_stages, start_dvc

RUSSIAN = "Все счастливые семьи похожи, каждая несчастливая семья несчастлива по-своему.\n" * 30
GERMAN = "Über den Wäldern lag ein süßer Duft, und die Vögel sangen größere Lieder.\n" * 30
ENGLISH = (
    "It is a truth universally acknowledged, that a single man must be in want of a wife.\n" * 30
)
MANY = "".join(chr(0x4E00 + index * 7919 % 5000) for index in range(5000))
UTF_16 = codecs.BOM_UTF16_BE + GERMAN.encode("utf-16-be")
# Files, and some of the parameters that are derived from them.
GOOD: dict[str, tuple[bytes, dict[str, Any]]] = {
    "1 kB": (ENGLISH[:1000].encode(), {"train.batch_size": 4}),
    "UTF-16 with BOM": (UTF_16, {"download.encoding": "utf-16"}),
    "CR LF": (ENGLISH.replace("\n", "\r\n").encode(), {"download.newlines": "lf"}),
    "Chinese of 5,000 characters": ((MANY[:3000] * 70 + MANY).encode(), {"encode.min_count": 2}),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project in which no stage has run. It has a text and is the current folder."""
    folder = blank_project(tmp_path / "project")
    (folder / "Pride.txt").write_text(ENGLISH)
    monkeypatch.chdir(folder)
    return folder


def tree(project: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}


def assert_refused(run: Run, project: Path, error: str, *arguments: str | Path) -> None:
    before = tree(project)
    code, out, log = run(*arguments)
    (line,) = (line for line in log.splitlines() if not line.startswith("Downloading file"))
    assert (code, out) == (2, "") and error in line
    assert tree(project) == before


def assert_stages_run(project: Path, text: str) -> None:
    run_stages(project, "download", "split", "encode")
    paths = load_paths(project / "dvc.yaml")
    assert (project / paths.corpus).read_bytes().decode() == text
    assert set(load_vocab(project / paths.encoded / "vocab.json").characters) <= {*text, "\ufffd"}


@pytest.mark.parametrize("name", GOOD)
def test_an_odd_text_ends_well(run: Run, project: Path, tmp_path: Path, name: str) -> None:
    content, settings = GOOD[name]
    (tmp_path / "odd.txt").write_bytes(content)
    code, _, log = run("new", tmp_path / "odd.txt")
    assert code == 0, log
    params = load_params(project / "params.yaml")
    assert settings.items() <= params.flat().items()
    text = content.decode(params.download.encoding)
    if params.download.newlines == "lf":
        text = text.replace("\r\n", "\n")
    assert_stages_run(project, text)
    assert (tmp_path / "odd.txt").read_bytes() == content


def test_an_encoding_that_is_named_decides(run: Run, project: Path) -> None:
    (project / "old.txt").write_bytes(RUSSIAN.encode("koi8-r"))
    assert run("new", "old.txt", "--encoding", "koi8-r")[0] == 0
    assert_stages_run(project, RUSSIAN)


def test_a_folder_is_one_text(run: Run, project: Path, tmp_path: Path) -> None:
    folder = tmp_path / "books"
    (folder / "sub").mkdir(parents=True)
    for name, text in {"b.txt": ENGLISH, "sub/c.txt": GERMAN}.items():
        (folder / name).write_text(text)
    (folder / "a.txt").write_text(RUSSIAN, encoding="utf-16")
    assert_refused(run, project, "expected one encoding for all files", "new", folder)
    (folder / "a.txt").write_text(RUSSIAN)
    code, _, log = run("new", folder)
    assert code == 0, log
    assert_stages_run(project, "\n".join([RUSSIAN, ENGLISH, GERMAN]))


@pytest.mark.parametrize("name", ["-dash.txt", "Война quo'te\" {b}: #c.txt"])
def test_a_file_may_be_named_anything(run: Run, project: Path, name: str) -> None:
    (project / "texts").mkdir()
    (project / "texts" / name).write_text(ENGLISH)
    assert run("new", "--", f"texts/{name}")[0] == 0
    assert_stages_run(project, ENGLISH)


def test_mistakes_are_told_in_a_line(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("charlstm.corpus.fetch.NUM_RETRIES", 0)
    for folder in ("artifacts", "Datasets"):
        (project / folder).mkdir()
    (project / "Datasets/text.txt").write_text(ENGLISH)
    (project / "link").symlink_to(project / "Datasets/text.txt")
    for arguments, error in (
        (["Pride.txt", "--name", "A b"], "--name must consist of lowercase letters"),
        (["Pride.txt", "--name", "quick", "--force"], "must not be a name of the project itself"),
        (["tiny-shakespeare", "--minutes", "9"], "expected the name tiny-shakespeare without"),
        (["tiny-shakspeare"], "did you mean tiny-shakespeare?"),
        (["link"], "expected a text outside of Datasets"),
        (["."], "expected a text outside of "),
        (["https://example.org/text.txt?token=abc"], "?token=***"),
    ):
        assert_refused(run, project, error, "new", *arguments)


def test_the_parameters_are_those_of_the_text_and_back(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "below").mkdir()
    (project / "below/latest.txt").symlink_to(project / "Pride.txt")
    monkeypatch.chdir(project / "below")
    assert run("new", "latest.txt", "--name", "pride")[0] == 0
    params = load_params(project / "params.yaml")
    assert params.download.source == params.download.watch == f"{project}/below/latest.txt"
    monkeypatch.chdir(project)
    assert recipe_of(params) == nearest(CORPORA, params.values()) == Recipe("pride", {})
    mine = (project / "params.yaml").read_text()
    assert run("new", "tiny-shakespeare")[0] == 0
    assert (project / "params.yaml").read_text() == shipped_params() != mine
    assert run("new", "pride")[0] == 0
    assert (project / "params.yaml").read_text() == mine


def test_what_is_there_is_replaced_only_by_force(run: Run, project: Path) -> None:
    assert run("new", "Pride.txt")[0] == 0
    for name in ("corpus", "recipe"):
        (project / f"conf/{name}/pride.yaml").write_text("# mine\nmodel: {}\n")
    (project / "other.txt").write_text(ENGLISH * 2)
    other = ("new", "other.txt", "--name", "pride")
    both = "conf/corpus/pride.yaml, conf/recipe/pride.yaml already exists"
    assert_refused(run, project, both, *other)
    (project / "conf/corpus/pride.yaml").unlink()
    assert_refused(run, project, "conf/recipe/pride.yaml already exists", *other)
    code, out, _ = run(*other, "--force")
    assert code == 0 and out.index("replaces conf/recipe/pride.yaml\n") < out.index("written:")
    assert "mine" not in (project / "conf/recipe/pride.yaml").read_text()


def test_a_name_is_one_that_yaml_reads_as_a_text() -> None:
    names = {"Élégies (1813)": "elegies-1813", "Война и мир": "text"}
    names |= {"1984": "text-1984", "no": "text-no"}
    for stem, name in names.items():
        assert name_of(stem) == name == name_of(name)


@pytest.mark.parametrize(
    ("text", "edit", "lost"),
    [
        ("Pride.txt", ("hidden_size: 320", "hidden_size: 128"), "quick with hidden_size 128"),
        (
            "tiny-shakespeare",
            ("test_fraction: 0.0", "test_fraction: 0.2"),
            "split.test_fraction 0.2",
        ),
    ],
)
def test_a_choice_in_the_parameters_is_not_lost(
    run: Run, project: Path, text: str, edit: tuple[str, str], lost: str
) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace(*edit).replace("  seed: 1\n", "  seed: 7  # mine\n"))
    assert_refused(run, project, lost, "new", text)
    assert run("new", text, "--force")[0] == 0
    assert edit[1] not in path.read_text()
    assert "  seed: 7 # mine\n" in path.read_text(), "no recipe and no text decides it"


def test_nothing_is_changed_while_a_training_is_under_way(run: Run, project: Path) -> None:
    with exclusive(CHECKOUT, "a training in this checkout"):
        for command in (["new", "Pride.txt"], ["new", "tiny-shakespeare"], ["recipe", "best"]):
            assert_refused(run, project, "training is already running in this checkout", *command)


def test_a_training_is_proposed_for_a_time(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, log = run("new", "Pride.txt", "--minutes", "0.5")
    assert code == 0 and "about 0." in out and "ms per step" in out, log
    assert recipe_of(load_params(project / "params.yaml")) == Recipe("pride", {})
    (project / "Pride.txt").write_text(ENGLISH * 1000)
    monkeypatch.setattr("pipeline.new.corpus.step_seconds", lambda *_: 100.0)
    too_short = "--minutes 0.5 is too short"
    assert_refused(run, project, too_short, "new", "Pride.txt", "--minutes", "0.5", "--force")


def test_a_text_begins_from_a_model(run: Run, project: Path, learned: Path) -> None:
    start_dvc(project)
    code, out, err = run("new", "Pride.txt", "--from", learned)
    assert code == 0, err
    params = load_params(project / "params.yaml")
    shape = load_model(learned, "gates").model.shape
    kept = project / params.train.initial
    assert f"starts from {learned}" in out and "less than half" not in out
    assert kept.parent == project / "conf/initial"
    assert shape_of(params.model, shape.vocab_size) == shape
    assert params.train.dropout.output == 0.1
    for name in (CONFIG, VOCAB, WEIGHTS):
        assert (kept / name).read_bytes() == (learned / name).read_bytes()
    added = dvc(project, "git", "status", "--porcelain", "-uall", "conf/initial").split()
    assert added == ["??", "conf/initial/.gitignore", "??", f"{params.train.initial}.dvc"]
    assert recipe_of(params) == Recipe("pride", {})
    assert run("recipe", "quick")[0] == 0
    assert load_params(project / "params.yaml").train.initial == NOTHING
    (project / "Pride.txt").write_text("ж" * 600 + "ea " * 199)
    _, out, _ = run("new", "Pride.txt", "--from", learned, "--force")
    assert "! less than half of the text's characters are in" in out


@given(st.text(st.sampled_from("ab\r\nж☃")), st.lists(st.integers(0, 30), max_size=5))
def test_pieces_are_counted_like_the_whole(text: str, cuts: list[int]) -> None:
    edges = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    report = inspect([text[start:end] for start, end in pairwise(edges)])
    converted = text.replace("\r\n", "\n")
    assert report.num_chars == len(converted) == len(text) - report.num_crlf
    assert report.counts == {one: converted.count(one) for one in set(converted)}
    lines = converted.split("\n")
    assert report.num_lines == len(lines) - (lines[-1] == "")
