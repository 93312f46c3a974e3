"""Several models side by side: what differs on top, the best loss marked, texts that were drawn alike in one row."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from reviews import HOSTILE, copy, review, sample

from benchmarks.projects import ROOT
from charlstm.errors import CharlstmError
from charlstm.evaluation.documents import write_document
from charlstm.params import load_params
from charlstm.report.comparison import (
    MAX_RUNS,
    check_number,
    comparison_of,
    differences,
    groups_of,
    loss_rows,
    parameter_rows,
    published_losses,
    temperatures_of,
)
from charlstm.report.document import Loss, read_review
from charlstm.report.page import MAX_PAGE_BYTES
from charlstm.sections import PublishedLoss, differing
from pipeline.commands.review import find_review
from pipeline.commands.review import review as write_review
from pipeline.provenance.git import git
from pipeline.stage.presets import recipe_of


def losses(nats_per_char: float) -> dict[str, Loss]:
    return {"stateful": Loss(nats_per_char=nats_per_char, bits_per_char=1, perplexity=2, num_chars=9)}


def test_parameters_that_differ() -> None:
    columns: list[dict[str, object]] = [
        {"a": 1, "b": True, "c": None},
        {"a": 1, "b": 1, "c": None, "d": "x", "e": None},
    ]
    rows = parameter_rows([review([], parameters=one) for one in columns])
    assert [(row.name, row.cells) for row in rows] == [("b", [True, 1]), ("d", ["", "x"]), ("e", ["", None])]
    assert differing([{"a": 1}]) == differing([]) == []


def parameters(**values: object) -> dict[str, object]:
    """`muon__learning_rate=1` is `train.muon.learning_rate`."""
    return {f"train.{name.replace('__', '.')}": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([parameters(seed=1), parameters(seed=1)], ["", ""]),
        (
            [parameters(seed=1, muon__learning_rate=rate) for rate in (0.06, 0.01)],
            ["muon.learning_rate 0.06", "muon.learning_rate 0.01"],
        ),
        (
            [parameters(a=None, b=True), parameters(a="x" * 99)],
            ["a none, b true", f"a {'x' * 37}..."],
        ),
        ([dict.fromkeys("abcde", value) for value in (1, 2)], ["a 1, b 1, c 1, 2 more", "a 2, b 2, c 2, 2 more"]),
    ],
)
def test_a_model_is_named_by_what_differs(columns: list[dict[str, object]], expected: list[str]) -> None:
    documents = [review([], parameters=one) for one in columns]
    assert differences(documents, [None] * len(documents)) == expected


def test_a_model_is_named_by_recipe_and_corpus_where_these_differ() -> None:
    documents = [review([], parameters=dict.fromkeys("abcd", value)) for value in (1, 2)]
    assert differences(documents, ["quick", "best"]) == ["quick", "best"]
    documents[1] = documents[1].model_copy(update={"corpus": "other", "corpus_sha256": "0"})
    assert differences(documents, ["quick", "quick"]) == [
        "some text, a 1, b 1, c 1, 1 more",
        "other, a 2, b 2, c 2, 1 more",
    ]


def test_the_lowest_loss_is_the_best_where_losses_can_be_compared() -> None:
    documents = [review([], losses=losses(loss)) for loss in (1.5, 1.4, 1.4)]
    (row,) = loss_rows(documents)
    assert row.cells == [1.5, 1.4, 1.4] and row.best == {1, 2}
    other = review([], losses=losses(1.0), validation_sha256="other")
    assert loss_rows([*documents, other])[0].best == frozenset()
    assert "cannot be compared" in comparison_of([("a", documents[0]), ("b", other)])
    assert [row.cells for row in loss_rows([documents[0], review([], losses={})])] == [[1.5, None]]


def test_windows_of_bytes_and_of_characters_are_not_compared() -> None:
    (loss,) = losses(1.4).values()
    both = {"windowed_256": loss, "stateful": loss}
    documents = [review([], losses=both, parameters={"encode.unit": unit}) for unit in ("byte", "character")]
    assert {row.name: row.best for row in loss_rows(documents)} == {"windowed_256": set(), "stateful": {0, 1}}


def test_published_losses_only_where_all_were_measured_on_that_text() -> None:
    comparable = review([], published=[PublishedLoss(protocol="stateful", system="x", nats_per_char=1.25)])
    assert published_losses([comparable, comparable]) == comparable.published
    page = comparison_of([("a", comparable), ("b", comparable)])
    assert "<td>1.2500</td>" in page and "<bdi>stateful</bdi> by x." in page
    assert published_losses([comparable, review([])]) == []


def test_texts_that_were_drawn_alike_are_one_row() -> None:
    first = review([sample("a" * 30, "p", copies=[copy(0, 25)]), sample("b", "q")])
    second = review([sample("c", "q"), sample("d" * 30, "p", seed=2, copies=[copy(0, 25)])])
    rows = groups_of([first, second], 100)
    found = [(row.prompt, row.seed, [one and one.sample.text[0] for one in row.texts]) for row in rows]
    assert found == [("p", 1, ["a", None]), ("q", 1, ["b", "c"]), ("p", 2, [None, "d"])]
    numbers = [piece.number for row in rows for one in row.texts if one for piece in one.pieces if piece.copy]
    assert numbers == [1, 2]
    assert temperatures_of([first, second]) == [0.8, None]


def test_ten_runs_are_a_page_and_eleven_an_error() -> None:
    one = review([sample("x" * 200_000)])
    page = comparison_of([(f"run {number}", one) for number in range(MAX_RUNS)])
    assert "run 9" in page and len(page.encode()) <= MAX_PAGE_BYTES and "left out here" in page
    for count in (0, 11):
        with pytest.raises(CharlstmError, match=f"found {count or 'none'}"):
            check_number(count)


def test_labels_and_texts_are_text_and_the_bytes_the_same() -> None:
    labeled = [(HOSTILE, review([sample(HOSTILE, HOSTILE)])), ("$\\frac{", review([]))]
    page = comparison_of(labeled)
    assert page == comparison_of(labeled)
    assert page.count("<script") == 1 and "<img" not in page and "\u202e" not in page and "\0" not in page


def test_the_command_takes_projects_folders_and_files(tmp_path: Path) -> None:
    projects = [tmp_path / "first", tmp_path / "second", tmp_path / "other" / "second"]
    for project in projects:
        write_document(project / "artifacts/samples/review.json", review([sample(project.name)]))
        for name in ("dvc.yaml", "params.yaml"):
            shutil.copy(ROOT / name, project)
    sources = [projects[0], projects[1] / "artifacts/samples", projects[2] / "artifacts/samples/review.json"]
    files = [find_review(source) for source in sources]
    assert files == [project / "artifacts/samples/review.json" for project in projects]
    write_review([str(source) for source in sources], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert (
        "3 models side by side" in page
        and "first" in page
        and "second (1)" in page
        and "second (2)" in page
        and str(tmp_path) not in page
    )


def test_a_source_that_has_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CharlstmError, match="expected a project, a folder of samples or a review.json, found none"):
        write_review([str(tmp_path)], tmp_path / "page.html")
    with pytest.raises(
        CharlstmError, match="nothing: there is no such file or folder; runs and revisions need a project"
    ):
        write_review(["nothing"], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_runs_and_revisions_are_found(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recorded)
    document = read_review(Path("artifacts/samples/review.json"))
    other = document.model_copy(update={"parameters": {**document.parameters, "train.muon.learning_rate": 0.05}})
    write_document(tmp_path / "other" / "review.json", other)
    rate = document.parameters["train.muon.learning_rate"]
    for name, label in (
        ("an-experiment", None),
        ("HEAD", None),
        (document.model_sha256[:12], document.model_sha256[:8]),
    ):
        write_review([name, str(tmp_path / "other")], tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text("utf-8")
        assert "2 models side by side" in page
        assert f"<bdi>{label or name} \N{MIDDLE DOT} muon.learning_rate {rate}</bdi>" in page
        assert "<bdi>other \N{MIDDLE DOT} muon.learning_rate 0.05</bdi>" in page


def test_what_else_ran_from_a_commit_is_not_its_model(copy: Path, tmp_path: Path) -> None:
    """As experiments do: a store may have these, and no run of the commit's own model."""
    document = read_review(Path("artifacts/samples/review.json"))
    other = document.model_copy(update={"model_sha256": "0" * 64, "parameters": {"train.seed": 7}})
    shutil.rmtree("mlartifacts")
    Path("mlflow.db").unlink()
    client = MlflowClient(f"sqlite:///{copy}/mlflow.db")
    experiment = client.create_experiment("charlstm/shakespear", (copy / "mlartifacts").as_uri())
    run = client.create_run(experiment, tags={"mlflow.source.git.commit": git("rev-parse", "HEAD") or ""})
    client.log_text(run.info.run_id, other.model_dump_json(), "review/review.json")
    write_review(["HEAD"], tmp_path / "page.html")
    assert "seed 1</bdi></h1>" in (tmp_path / "page.html").read_text("utf-8")
    write_review([run.info.run_id], tmp_path / "page.html")
    assert "seed 7</bdi></h1>" in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize("content", [None, '{"schema_version": 2}'], ids=["missing", "of another version"])
def test_an_experiment_without_its_review_in_mlflow_is_found_in_git(
    content: str | None, copy: Path, tmp_path: Path
) -> None:
    for file in Path("mlartifacts").rglob("review.json"):
        file.unlink() if content is None else file.write_text(content)
    write_review(["an-experiment"], tmp_path / "page.html")
    assert "seed 1</bdi></h1>" in (tmp_path / "page.html").read_text("utf-8")


def test_one_model_has_a_page_of_its_own(copy: Path, tmp_path: Path) -> None:
    """With its recipe in the title, if a run or the project knows it."""
    params = load_params(Path("params.yaml"))
    sizes = f"LSTM {params.model.num_layers} \N{MULTIPLICATION SIGN} {params.model.hidden_size}"
    shutil.copytree("artifacts/samples", tmp_path / "samples")
    of_run = recipe_of(params).label
    shutil.copytree(ROOT / "conf", copy / "conf", dirs_exist_ok=True)
    of_project = recipe_of(params).label
    titles = {"HEAD": of_run, "artifacts/samples": of_project, str(tmp_path / "samples"): sizes}
    for name, expected in titles.items():
        write_review([name], tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text("utf-8")
        assert f"<h1><bdi>shakespear \N{MIDDLE DOT} {expected} \N{MIDDLE DOT} seed 1</bdi></h1>" in page


def test_a_name_of_nothing_is_named(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recorded)
    with pytest.raises(CharlstmError, match="nothing: expected a run, a file or a revision, found none of that name"):
        write_review(["nothing"], tmp_path / "page.html")
