"""The best training of a text in a given time: which rule decides what, whatever the machine."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.projects import ROOT, compose
from charlstm.errors import CorpusError
from charlstm.model.shape import ModelShape
from charlstm.params import Params
from pipeline.new import timing
from pipeline.new.budget import (
    ANSWER,
    MIN_CHARS_PER_WEIGHT,
    REQUEST,
    Budget,
    Plan,
    Request,
    Speed,
    expected_loss,
    plan_within,
    proposal_of,
)
from pipeline.new.proposal import AFTER_A_MODEL, MAX_DROPOUT, Text, Training
from pipeline.stage.presets import RECIPES, load

QUICK = load(RECIPES, "quick", ROOT).values
MINUTES = (0.5, 3.0, 15.0, 60.0, 600.0)
LENGTHS = (2_000, 100_000, 1_100_000, 3_300_000, 10_000_000)


def params_of(training: Training) -> Params:
    return compose(ROOT, [f"{name}={value}" for name, value in training.recipe().items()])


def plan(
    minutes: float, num_chars: int, alphabet: int = 65, power: float = 6e10, shape: ModelShape | None = None
) -> Plan:
    """On a machine that multiplies so many weights a second, for as long as steps are worth the time."""

    def measure(requests: Sequence[Request], vocab_size: int) -> list[Speed]:
        speeds = []
        for request in requests:
            train, hidden = request.params.train, request.params.model.hidden_size
            seconds = train.batch_size * train.context_len * 8 * hidden**2 / power
            speeds.append(Speed(seconds, power / hidden**2 / 4))
            if seconds > request.max_seconds:
                break
        return speeds

    text = Text(num_chars, [num_chars // alphabet] * alphabet)
    return plan_within(Budget(text, 60 * minutes, shape), params_of, measure)


@pytest.mark.parametrize("num_chars", LENGTHS)
def test_the_time_is_kept_and_more_of_it_makes_no_smaller_model(num_chars: int) -> None:
    plans = [plan(minutes, num_chars) for minutes in MINUTES[1:]]
    for minutes, found in zip(MINUTES[1:], plans, strict=True):
        assert 0 < found.seconds <= 1.05 * 60 * minutes
        assert found.training.epochs > 0
    seen = [found.training.shape.num_multiplied * found.training.chars_seen for found in plans]
    assert seen == sorted(seen)


def test_a_faster_machine_gets_a_wider_model() -> None:
    sizes = [plan(15, 3_300_000, power=power).training.shape.hidden_size for power in (1e10, 4e10, 16e10)]
    assert sizes == sorted(set(sizes))


def test_a_model_reads_enough_for_its_width_and_has_no_more_weights_than_the_text_can_feed() -> None:
    for minutes in MINUTES[1:]:
        for num_chars in LENGTHS[1:]:
            training = plan(minutes, num_chars).training
            assert training.chars_seen >= MIN_CHARS_PER_WEIGHT * training.shape.num_multiplied
            assert training.shape.num_multiplied < (4 if num_chars < 300_000 else 2.5) * training.num_train


def test_a_text_that_is_read_often_gets_dropout() -> None:
    rates = [plan(60, num_chars).training.dropout for num_chars in LENGTHS[1:]]
    assert rates == sorted(rates, reverse=True) and rates[0] > rates[-1]
    once, often = (plan(minutes, 1_100_000).training for minutes in (0.7, 60))
    assert once.dropout == 0 < often.dropout


def test_dropout_grows_by_a_tenth_with_each_doubling() -> None:
    training = Training(1_000, ModelShape(9, 8, 16, 1, 16), 1, 4, 16)
    once = training.overfitting_risk
    assert once == pytest.approx((4 * 16 * (8 + 16) + 2 * 16 * 16 + 16 * 9) / 1_000)
    epochs_at = {risk: round(risk / once) for risk in (9, 20, 40, 160, 1_000)}
    found = [training._replace(epochs=epochs).dropout for epochs in epochs_at.values()]
    assert found == pytest.approx([0, 0.1, 0.2, MAX_DROPOUT, MAX_DROPOUT], abs=0.02)


def test_one_that_begins_from_a_model_forgets_little() -> None:
    text, shape = Text(1_100_000, [17_000] * 65), ModelShape(65, 128, 320, 1, 320)
    assert not proposal_of(plan(60, 1_100_000), text, QUICK).recipe.keys() & AFTER_A_MODEL.keys()
    begun = proposal_of(plan(3, 1_100_000, shape=shape), text, QUICK)
    assert begun.recipe.items() >= AFTER_A_MODEL.items()


def test_a_time_too_short_says_how_much_it_takes() -> None:
    with pytest.raises(CorpusError, match=r"--minutes 0\.1 is too short: .* once takes [45].[0-9] minutes here"):
        plan(0.1, 10_000_000, power=1e9)
    with pytest.raises(CorpusError) as refused:
        plan(0.01, 4_500, power=1e7)
    assert (enough := re.search(r"takes ([0-9.]+) minutes here", str(refused.value)))
    assert plan(float(enough[1]), 4_500, power=1e7).training.epochs >= 1


def test_steps_are_timed_up_to_the_first_that_is_too_slow(tmp_path: Path) -> None:
    training = Training(1_000, ModelShape(9, 8, 16, 1, 16), 1, 4, 16)
    params = params_of(training).model_dump(mode="json")
    requests = [(params, 100.0), (params, 0.0), (params, 100.0)]
    (tmp_path / REQUEST).write_text(json.dumps([9, requests]))
    timing.answer(tmp_path)
    first, second = (Speed(*row) for row in json.loads((tmp_path / ANSWER).read_text()))
    assert min(*first, *second) > 0


def test_what_can_be_expected_is_told_of_longer_texts() -> None:
    text = "".join(f"{number} times {number} is {number**2}.\n" for number in range(3_000))
    (expected,) = expected_loss(text, 200)
    low, high, *in_nats, bits = map(float, re.findall(r"\d\.\d\d", expected))
    assert 0 < low < bits < high < 5
    assert in_nats == pytest.approx([low * math.log(2), high * math.log(2)], abs=0.01)
    assert expected_loss(text[:5_000], 200) == [] == expected_loss(text, 100)
