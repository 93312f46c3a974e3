"""`params.yaml` as a text: values are replaced, all else stays, and DVC's `-S` changes its own lines alone."""

import difflib
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.projects import ROOT, shipped_params
from charlstm.errors import ParamsError
from charlstm.files.documents import parse_yaml
from charlstm.params import Params
from pipeline.stage.params_file import with_values, write_params
from pipeline.stage.presets import CORPORA, RECIPES, load, names

SHIPPED = shipped_params()
VALUES = Params.model_validate(parse_yaml(SHIPPED)).values()
TEXTS = st.text(st.sampled_from("ab #:-'\"\n\té\u2028[]{}&*!|>%@`,?0"), max_size=20) | st.just("long " * 30 + ".")
SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS)
ANY = st.one_of(
    st.none(),
    SCALARS,
    st.lists(SCALARS, max_size=4),
    st.dictionaries(st.from_regex(r"[a-z][a-z_]{0,20}", fullmatch=True), SCALARS, min_size=1, max_size=3),
    st.lists(st.dictionaries(st.sampled_from("abc"), TEXTS, min_size=1), max_size=3),
)


def test_a_link_a_mode_and_line_ends_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, project = tmp_path / "shared.yaml", tmp_path / "project"
    project.mkdir()
    shared.write_bytes(SHIPPED.replace("\n", "\r\n").encode())
    shared.chmod(0o664)
    (project / "params.yaml").symlink_to(shared)
    monkeypatch.chdir(project)
    write_params(with_values(SHIPPED, {"train.seed": 7}))
    assert (project / "params.yaml").is_symlink() and shared.stat().st_mode & 0o777 == 0o664
    assert len(changed_lines(SHIPPED.replace("\n", "\r\n"), shared.read_bytes().decode())) == 2


def changed_lines(before: str, after: str) -> list[str]:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line[0] in "+-"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(VALUES)), ANY, max_size=6))
def test_values_are_written_and_taken_back(changes: dict[str, object]) -> None:
    """The file reads as it should, and is the same to the byte when the old values are back."""
    text = with_values(SHIPPED, changes)
    document = parse_yaml(text)
    for name, value in (VALUES | changes).items():
        found = document
        for part in name.split("."):
            found = found[part]
        assert found == value, name
    assert with_values(text, {name: VALUES[name] for name in changes}) == SHIPPED


def test_comments_stay_beside_their_values() -> None:
    text = with_values(
        SHIPPED, {"train.epochs": 7, "sample.prompts": "auto", "sample.top_k": 5, "train.muon.momentum": 0.5}
    )
    assert "  prompts: auto  # or auto" in text
    assert "  top_k: 5  # keep the k most likely" in text
    assert len(changed_lines(SHIPPED, text)) == 11


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("a: {b: 1}\n", "a.c", "a.c is missing"),
        ("train: {seeds: 1}\n", "train.seed", "train.seed is missing, did you mean seeds?"),
        ("a: &x 1\nb: *x\n", "a", "anchors"),
        ("a: {b: 1, c: 2}\n", "a.b", "a value on each line"),
    ],
)
def test_what_cannot_be_written_is_one_line(text: str, name: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message.replace("?", r"\?")):
        with_values(text, {name: 3})


def test_an_experiment_changes_the_lines_of_its_values_alone(tmp_path: Path) -> None:
    """DVC writes the whole file anew at `-S`; the shipped one is in the form in which it comes out."""
    path = tmp_path / "params.yaml"
    path.write_text(SHIPPED)
    apply_overrides(path, ["train.seed=1"])
    assert path.read_text() == SHIPPED
    apply_overrides(path, ["train.seed=5", "train.muon.learning_rate=0.05"])
    assert changed_lines(SHIPPED, path.read_text()) == [
        "-   seed: 1",
        "+   seed: 5",
        "-     learning_rate: 0.06  # peak, of the hidden matrices: the rate that moves the LSTM",
        "+     learning_rate: 0.05  # peak, of the hidden matrices: the rate that moves the LSTM",
    ]


@pytest.mark.parametrize("name", names(RECIPES, ROOT))
def test_every_recipe_leaves_the_file_in_that_form(name: str, tmp_path: Path) -> None:
    text = with_values(SHIPPED, load(RECIPES, name, ROOT).values)
    (tmp_path / "params.yaml").write_text(text)
    apply_overrides(tmp_path / "params.yaml", ["train.seed=1"])
    assert (tmp_path / "params.yaml").read_text() == text
    assert with_values(text, load(RECIPES, RECIPES.root, ROOT).values) == SHIPPED


def test_a_corpus_and_back_leaves_the_file_as_it_was() -> None:
    text = with_values(SHIPPED, load(CORPORA, "warpeace", ROOT).values)
    assert with_values(text, load(CORPORA, CORPORA.root, ROOT).values) == SHIPPED
