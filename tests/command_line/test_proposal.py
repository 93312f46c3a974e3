"""Which recipe is proposed for which text."""

import pytest

from benchmarks.projects import ROOT
from charlstm.model.shape import ModelShape
from pipeline.new import proposal
from pipeline.new.proposal import Proposal, Text, training_for
from pipeline.stage.presets import RECIPES, load

QUICK = load(RECIPES, "quick", ROOT).values

SIZES = (500, 1_000, 3_000, 20_000, 50_000, 110_000, 300_000, 700_000, 2_000_000, 10_000_000, 10**8, 10**10)


def propose(num_chars: int, counts: list[int], initial: ModelShape | None = None) -> Proposal:
    text = Text(num_chars, counts)
    return proposal.propose(text, QUICK, training_for(text, initial))


@pytest.mark.parametrize(
    ("num_chars", "recipe"),
    [
        (3_000, {"model.hidden_size": 96, "train.batch_size": 4, "train.context_len": 32, "train.epochs": 60}),
        (50_000, {"model.hidden_size": 192, "train.epochs": 45, "train.dropout.output": 0.4}),
        (300_000, {"model.hidden_size": 256, "train.epochs": 8, "train.dropout.output": 0.07}),
        (700_000, {"train.epochs": 4}),
        (1_115_394, {}),  # tiny Shakespeare: the default recipe as it is
        (3_200_000, {}),  # War and Peace, too
        (10_000_000, {"train.epochs": 1, "model.hidden_size": 256, "model.num_layers": 2}),
        (10_000_000, {"train.muon.learning_rate": 0.023, "train.weight_decay": 0.016}),
        (10**8, {"train.epochs": 1, "model.hidden_size": 512, "model.feed_forward_size": 512}),
        (10**8, {"train.muon.learning_rate": 0.02, "train.weight_decay": 0.013}),
    ],
)
def test_what_is_proposed(num_chars: int, recipe: dict[str, object]) -> None:
    found = propose(num_chars, [num_chars // 65] * 65).recipe
    assert recipe.items() <= found.items()
    assert (found == {}) == (recipe == {})


def test_a_lower_rate_is_told() -> None:
    said = {size: any("lower" in one for one in propose(size, [size // 65] * 65).reasons) for size in SIZES}
    assert said == {size: size > 3_900_000 for size in SIZES}


def test_a_text_of_rare_characters_is_read_more_often() -> None:
    assert propose(1_180_000, [1_180_000 // 2_900] * 2_900).recipe["train.epochs"] == 4


@pytest.mark.parametrize("num_chars", SIZES)
def test_every_proposal_trains(num_chars: int) -> None:
    """As `StreamBatches` and the schedule ask for; and it says why."""
    found = propose(num_chars, [num_chars // 65] * 65)
    values = {**QUICK, **found.recipe}
    batch_size, context_len, epochs, warmup = (
        int(str(values[f"train.{name}"])) for name in ("batch_size", "context_len", "epochs", "warmup_steps")
    )
    num_train = int(0.9 * num_chars)
    assert batch_size * context_len <= num_train - 1
    assert warmup < epochs * (num_train - 1) // (batch_size * context_len)
    assert found.reasons[0] and (epochs * num_train >= 2_000_000 or epochs == 60)


def test_rare_characters_of_a_large_alphabet_are_given_up_where_they_are_few() -> None:
    assert propose(10**6, [1] * 1500 + [2] * 1500 + [1000] * 2500).corpus == {"encode.min_count": 3}
    assert propose(10**6, [3] * 5000).corpus == {}
    assert propose(10**6, [1] * 3000).corpus == {}


def test_a_huge_text_is_validated_on_a_part() -> None:
    assert propose(10**9, [10**7] * 100).corpus == {
        "train.validation_chars": 1_000_000,
        "evaluate.max_chars": 10_000_000,
    }


def test_larger_texts_take_longer_and_need_no_smaller_models() -> None:
    found = [propose(size, [1]) for size in SIZES]
    weights = [one.training.shape.num_multiplied for one in found if one.training]
    assert len(found) == len(weights) > 10 and weights == sorted(weights)


def test_the_time_is_that_of_the_recipes_table() -> None:
    """54 seconds for `quick` on 2 cores: see docs/recipes.md."""
    training = propose(1_115_394, [1] * 65).training
    assert training is not None and training.seconds(2, True) == pytest.approx(54, rel=0.1)


def test_a_text_that_begins_from_a_model_has_its_sizes_and_lower_rates() -> None:
    counts = [1_500] * 65
    found = propose(100_000, counts, ModelShape(65, 48, 200, 2, 72)).recipe
    sizes = {"embedding_size": 48, "hidden_size": 200, "num_layers": 2, "feed_forward_size": 72}
    assert {f"model.{name}": size for name, size in sizes.items()}.items() <= found.items()
    alone = propose(100_000, counts).recipe
    assert found["train.dropout.output"] == 0.1 < float(str(alone["train.dropout.output"]))
    assert int(str(found["train.epochs"])) < int(str(alone["train.epochs"]))
    for rate in ("train.learning_rate", "train.muon.learning_rate"):
        assert 0 < float(str(found[rate])) < float(str(QUICK[rate]))
