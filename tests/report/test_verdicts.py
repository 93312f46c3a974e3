"""Verdicts of a comparison page: which recipe is better, and whether that is decided."""

import numpy as np

from charlstm.evaluation.difference import Blocks
from charlstm.report.comparison import recipes_of, verdicts
from charlstm.report.document import Loss, ReviewDocument, ReviewedModel
from tests.support.reviews import review


def document(loss: float, sha256: str, **parameters: object) -> ReviewDocument:
    losses = {"stateful": Loss(nats_per_char=loss, bits_per_char=1, perplexity=2, num_chars=14_999)}
    return review(
        [],
        losses=losses,
        model_sha256=sha256,
        parameters={f"train.{k}": v for k, v in parameters.items()},
    )


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
