"""Several models side by side: their differences, the best loss, and texts drawn alike."""

import shutil
from pathlib import Path

import pytest

from charlstm.evaluation.results import write_document
from charlstm.params import PublishedLoss
from charlstm.report.comparison import comparison_of, groups_of, labels_of, loss_rows
from charlstm.report.document import Loss, ReviewedModel, read_review
from pipeline.commands.review import review as write_review
from tests.support.reviews import copy, review, sample


def losses(nats_per_char: float) -> dict[str, Loss]:
    loss = Loss(nats_per_char=nats_per_char, bits_per_char=1, perplexity=2, num_chars=9)
    return {"stateful": loss}


def parameters(**values: object) -> dict[str, object]:
    """Return parameters of training. `muon__learning_rate=1` is `train.muon.learning_rate`."""
    return {f"train.{name.replace('__', '.')}": value for name, value in values.items()}


def candidates(*columns: dict[str, object], recipes: tuple[str, ...] = ()) -> list[ReviewedModel]:
    names = iter(recipes)
    return [
        ReviewedModel(f"model-{number}", review([], parameters=one), None, next(names, None))
        for number, one in enumerate(columns)
    ]


def test_a_model_is_called_by_what_differs() -> None:
    rates = candidates(*(parameters(seed=1, muon__learning_rate=rate) for rate in (0.06, 0.01)))
    assert labels_of(rates) == ["muon.learning_rate 0.06", "muon.learning_rate 0.01"]
    many: list[dict[str, object]] = [dict.fromkeys("abcde", value) for value in (1, 2)]
    assert labels_of(candidates(*many)) == ["model-0", "model-1"]
    assert labels_of(candidates(*many, recipes=("quick", "best"))) == ["quick", "best"]
    one, two = candidates(parameters(seed=1), parameters(seed=1))
    same = [one._replace(label="same"), two._replace(label="same")]
    assert labels_of(same) == ["same (1)", "same (2)"]
    other = rates[1].document.model_copy(update={"corpus": "other", "corpus_sha256": "0"})
    _, label = labels_of([rates[0], rates[1]._replace(document=other)])
    assert label == "other, muon.learning_rate 0.01"


def test_the_headline_is_first_and_models_of_other_texts_are_not_compared() -> None:
    (loss,) = losses(1.4).values()
    reviews = [review([], losses={"windowed_256": loss, "stateful": loss}), review([], losses={})]
    rows = [(row.name, row.cells) for row in loss_rows(reviews)]
    assert rows == [("stateful", [1.4, None]), ("windowed_256", [1.4, None])]
    first, second = (ReviewedModel(name, review([], losses=losses(1.4)), None) for name in "ab")
    published = [PublishedLoss(protocol="stateful", system="x", nats_per_char=1.23)]
    first = first._replace(document=first.document.model_copy(update={"published": published}))
    page = comparison_of([first, second])
    assert "1.2300 (x)" in page and "cannot be compared" not in page
    other = second.document.model_copy(update={"validation_sha256": "other"})
    page = comparison_of([first, second._replace(document=other)])
    assert "cannot be compared" in page and "1.2300" not in page


def test_texts_that_were_drawn_alike_are_one_row() -> None:
    first = review([sample("a" * 30, "p", copies=[copy(0, 25)]), sample("b", "q")])
    second = review([sample("c", "q"), sample("d" * 30, "p", seed=2, copies=[copy(0, 25)])])
    rows = groups_of([first, second])
    found = [(row.prompt, row.seed, [one and one.text[0] for one in row.texts]) for row in rows]
    assert found == [("p", 1, ["a", None]), ("q", 1, ["b", "c"]), ("p", 2, [None, "d"])]


def test_runs_and_revisions_are_found(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recorded)
    document = read_review(Path("artifacts/samples/review.json"))
    rate = document.parameters["train.muon.learning_rate"]
    changed = {**document.parameters, "train.muon.learning_rate": 0.05}
    other = document.model_copy(update={"parameters": changed})
    write_document(tmp_path / "other" / "review.json", other)
    shutil.copy("artifacts/evaluate/blocks.csv", tmp_path / "other")
    sha256 = document.model_sha256
    names = {"an-experiment": "an-experiment", "HEAD": "HEAD", sha256[:12]: sha256[:8]}
    for name, label in names.items():
        write_review([name, str(tmp_path / "other")], tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text("utf-8").replace("<wbr>", "")
        assert "2 models side by side" in page and "have the same loss on this text" in page
        assert f"<bdi>{label}</bdi>, LSTM" in page
        for value in (rate, 0.05):
            assert f"<bdi>muon.learning_rate {value}</bdi>" in page
