"""Several models side by side: differences, verdicts, losses, and texts drawn alike."""

from pathlib import Path

import numpy as np
import pytest

from charlstm.evaluation.difference import Blocks
from charlstm.evaluation.results import write_document
from charlstm.params import PublishedLoss
from charlstm.review.comparison import (
    comparison_of,
    groups_of,
    labels_of,
    loss_rows,
    recipes_of,
    verdicts,
)
from charlstm.review.document import Loss, ReviewDocument, ReviewedModel, read_review
from pipeline.commands.review import review as write_review
from tests.support.reviews import HOSTILE, copy, review, sample


def losses(nats_per_char: float) -> dict[str, Loss]:
    loss = Loss(nats_per_char=nats_per_char, bits_per_char=1, perplexity=2, num_chars=14_999)
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
    other = rates[1].document.model_copy(update={"corpus": "other", "corpus_sha256": "0"})
    _, label = labels_of([rates[0], rates[1]._replace(document=other)])
    assert label == "other, muon.learning_rate 0.01"


def test_the_headline_is_first_and_models_of_other_texts_are_not_compared() -> None:
    (loss,) = losses(1.4).values()
    reviews = [review([], losses={"windowed_256": loss, "stateful": loss}), review([], losses={})]
    rows = [("stateful", [loss, None]), ("windowed_256", [loss, None])]
    assert list(loss_rows(reviews).items()) == rows
    first, second = (ReviewedModel(name, review([], losses=losses(1.4)), None) for name in "ab")
    published = [PublishedLoss(protocol="stateful", system="x", nats_per_char=1.23)]
    first = first._replace(document=first.document.model_copy(update={"published": published}))
    page = comparison_of([first._replace(label=HOSTILE), second])
    assert "1.2300 (x)" in page and "cannot be compared" not in page
    assert page.count("<script") == 1 and "<img" not in page
    other = second.document.model_copy(update={"validation_sha256": "other"})
    page = comparison_of([first, second._replace(document=other)])
    assert "cannot be compared" in page and "1.2300" not in page


def test_texts_that_were_drawn_alike_are_one_row() -> None:
    first = review([sample("a" * 30, "p", copies=[copy(0, 25)]), sample("b", "q")])
    second = review([sample("c", "q"), sample("d" * 30, "p", seed=2, copies=[copy(0, 25)])])
    texts = {
        (prompt, seed): [one and one.text[0] for one in samples]
        for (prompt, _, seed), samples in groups_of([first, second]).items()
    }
    assert texts == {("p", 1): ["a", None], ("q", 1): ["b", "c"], ("p", 2): [None, "d"]}


def test_runs_and_revisions_are_found(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recorded)
    document = read_review(Path("artifacts/samples/review.json"))
    rate = document.parameters["train.muon.learning_rate"]
    changed = {**document.parameters, "train.muon.learning_rate": 0.05}
    other = document.model_copy(update={"parameters": changed})
    write_document(tmp_path / "other" / "review.json", other)
    for name in ("an-experiment", "HEAD", document.model_sha256[:12]):
        write_review([name, str(tmp_path / "other" / "review.json")], tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text("utf-8").replace("<wbr>", "")
        assert "2 models side by side" in page and "have the same loss on this text" in page
        assert f"<bdi>{name}</bdi>, LSTM" in page
        for value in (rate, 0.05):
            assert f"<bdi>muon.learning_rate {value}</bdi>" in page


def document(loss: float, sha256: str, **parameters: object) -> ReviewDocument:
    trained = {f"train.{name}": value for name, value in parameters.items()}
    return review([], losses=losses(loss), model_sha256=sha256, parameters=trained)


def blocks(loss: float, num_blocks: int = 30) -> Blocks:
    num_chars = np.array([499] + [500] * (num_blocks - 1))
    return Blocks(np.arange(num_blocks) * 500, num_chars, num_chars * loss)


def candidate(label: str, loss: float, **parameters: object) -> ReviewedModel:
    return ReviewedModel(label, document(loss, label, **parameters), blocks(loss))


def test_models_that_differ_in_the_seed_alone_are_one_recipe() -> None:
    models = [
        candidate("a", 1.40, seed=1, rate=0.1),
        candidate("b", 1.50, seed=1, rate=0.2),
        candidate("c", 1.42, seed=2, rate=0.1),
        candidate("d", 1.51, seed=3, rate=0.2),
        candidate("e", 1.60, seed=1, rate=0.3),
    ]
    # What decides only how texts are drawn is no recipe.
    parameters = {**models[2].document.parameters, "sample.num_chars": 7}
    models[2] = models[2]._replace(
        document=models[2].document.model_copy(update={"parameters": parameters})
    )
    found = recipes_of(models)
    assert [(one.name, one.losses) for one in found] == [
        ("rate 0.1 (2 seeds)", [1.40, 1.42]),
        ("rate 0.2 (2 seeds)", [1.50, 1.51]),
        ("rate 0.3", [1.60]),
    ]
    first, second = verdicts(models)
    assert first.startswith(
        "rate 0.1 (2 seeds) has a lower loss than rate 0.2 (2 seeds), by 0.0950 ± 0.0000 nats"
    )
    assert second.startswith(
        "rate 0.1 (2 seeds) has a lower loss than rate 0.3, by 0.1900 ± 0.0000 nats"
    )


def test_seeds_of_one_recipe_are_told_apart_by_nothing() -> None:
    assert verdicts(
        [candidate("a", 1.4, seed=1), candidate("b", 1.5, seed=2), candidate("c", 1.6, seed=3)]
    ) == [
        "3 seeds of one recipe: 1.5000 ± 0.1000 nats per character. They differ only in the seed."
    ]


def test_nothing_is_said_of_different_texts_and_of_one_model() -> None:
    first, second = candidate("a", 1.4, seed=1), candidate("b", 1.5, seed=1, rate=0.2)
    assert len(verdicts([first, second])) == 1
    other = second.document.model_copy(update={"validation_sha256": "0" * 64})
    assert verdicts([first, second._replace(document=other)]) == verdicts([first]) == []
    unmeasured = second.document.model_copy(update={"losses": {}})
    assert verdicts([first, second._replace(document=unmeasured)]) == []
