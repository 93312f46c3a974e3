"""Recipes proposed for texts, and trainings proposed for a time on any machine."""

import re

import pytest

from charlstm.errors import CorpusError
from charlstm.model.shape import ModelShape
from pipeline.new import proposal, rules
from pipeline.new.proposal import (
    Proposal,
    TextCounts,
    Training,
    training_for,
)
from pipeline.new.training_time import training_within
from pipeline.recipes import RECIPES, load

QUICK = load(RECIPES, "quick").values
SIZES = (500, 50_000, 2_000_000, 10**10)
MINUTES = (3.0, 15.0, 60.0, 600.0)
LENGTHS = (100_000, 1_100_000, 3_300_000, 10_000_000)


def propose(num_chars: int, counts: list[int], initial: ModelShape | None = None) -> Proposal:
    text = TextCounts(num_chars, counts)
    return proposal.propose(text, QUICK, training_for(text, initial))


def test_a_text_like_tiny_shakespeare_gets_the_default_recipe() -> None:
    assert propose(1_115_394, [1_115_394 // 65] * 65).recipe == {}


@pytest.mark.parametrize("num_chars", SIZES)
def test_every_proposal_trains(num_chars: int) -> None:
    """`StreamBatches` and the schedule accept the proposed parameters."""
    values = {**QUICK, **propose(num_chars, [num_chars // 65] * 65).recipe}
    batch_size, context_len, epochs, warmup = (
        int(str(values[f"train.{name}"]))
        for name in ("batch_size", "context_len", "epochs", "warmup_steps")
    )
    num_train = int(0.9 * num_chars)
    assert batch_size * context_len <= num_train - 1
    assert warmup < epochs * (num_train - 1) // (batch_size * context_len)
    assert epochs * num_train >= 2_000_000 or epochs == 60


def test_characters_of_a_large_alphabet_are_given_up_where_they_are_few_and_rare() -> None:
    # Few and rare characters of a large alphabet make the text be read more often.
    assert propose(1_180_000, [1_180_000 // 2_900] * 2_900).recipe["train.epochs"] == 4
    assert propose(10**6, [1] * 1500 + [2] * 1500 + [1000] * 2500).corpus == {"encode.min_count": 3}
    assert propose(10**6, [3] * 5000).corpus == {}
    assert propose(10**6, [1] * 3000).corpus == {}
    large = propose(10**9, [10**7] * 100).corpus
    assert large.keys() == {"train.validation_chars", "evaluate.max_chars"}


def within(minutes: float, num_chars: int, power: float = 6e10) -> tuple[Training, float]:
    """Return a training for a machine that multiplies `power` weights per second."""

    def step_seconds(training: Training) -> float:
        num_chars_per_step = training.batch_size * training.context_len
        return num_chars_per_step * 8 * training.shape.hidden_size**2 / power

    counts = TextCounts(num_chars, [num_chars // 65] * 65)
    return training_within(counts, 60 * minutes, step_seconds)


@pytest.mark.parametrize("num_chars", LENGTHS)
def test_the_time_is_kept_and_more_of_it_makes_no_smaller_model(num_chars: int) -> None:
    found = [within(minutes, num_chars) for minutes in MINUTES]
    for minutes, (training, seconds) in zip(MINUTES, found, strict=True):
        assert training.epochs > 0 and 0 < seconds <= 1.05 * 60 * minutes
        num_weights = training.shape.num_multiplied
        num_read = training.epochs * training.num_train
        assert num_read >= rules.MIN_CHARS_PER_WEIGHT * num_weights
        assert num_weights < (4 if num_chars < 300_000 else 2.5) * training.num_train
    sizes = [training.shape.hidden_size for training, _ in found]
    assert sizes == sorted(sizes) and (sizes[0] < sizes[-1] or num_chars == LENGTHS[0])


def test_a_time_too_short_says_how_much_it_takes() -> None:
    with pytest.raises(
        CorpusError, match=r"--minutes 0\.01 is too short: .* once takes .* minutes on this machine"
    ) as refused:
        within(0.01, 4_500, 1e7)
    assert (enough := re.search(r"takes ([0-9.]+) minutes on", str(refused.value)))
    assert within(float(enough[1]), 4_500, 1e7)[0].epochs >= 1
