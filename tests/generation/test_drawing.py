"""Distributions by sampling rules, and random numbers."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from charlstm.errors import TextRequestError
from charlstm.generation.kernels import Rules
from charlstm.generation.sampler import key_of, uniforms
from charlstm.sampling import Sampling, checked_number
from tests.support.compiled_parts import draw, relative_probabilities

LOGITS = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).log()
CLOSE = 2e-4  # the precision of the sampler's table


def probabilities(logits_V: Tensor, **rule: Any) -> Tensor:
    sampling = Sampling(**rule)
    if sampling.temperature == 0:
        return torch.zeros(len(logits_V), dtype=torch.float64).index_fill(0, logits_V.argmax(), 1)
    rules = Rules.of([sampling], len(logits_V))
    relative_V = torch.from_numpy(relative_probabilities(logits_V[None].numpy(), rules)[0])
    return relative_V / relative_V.sum()


def kept(logits_V: Tensor, **rule: Any) -> list[float]:
    return [round(float(one), 3) for one in probabilities(logits_V, **rule)]


def assert_close(found_V: Tensor, expected_V: Tensor) -> None:
    torch.testing.assert_close(found_V, expected_V, rtol=CLOSE, atol=1e-300)


def test_temperature_top_k_min_p_and_nucleus() -> None:
    assert_close(probabilities(LOGITS, temperature=1.0), LOGITS.exp().double())
    assert_close(probabilities(LOGITS, temperature=0.5), (LOGITS * 2).softmax(0).double())
    assert kept(LOGITS, temperature=0) == [1, 0, 0, 0, 0]
    assert kept(LOGITS, temperature=1.0, top_k=2) == [0.714, 0.286, 0, 0, 0]
    assert kept(LOGITS, temperature=1.0, top_p=0.6) == [0.714, 0.286, 0, 0, 0]
    assert kept(LOGITS, temperature=1.0, min_p=0.25) == [0.588, 0.235, 0.176, 0, 0]
    shuffled = LOGITS[[3, 0, 4, 1, 2]]
    assert kept(shuffled, temperature=1.0, top_k=2) == [0, 0.714, 0, 0.286, 0]
    # The nucleus is a share of what other rules left: two characters have 0.7 of 0.85.
    assert kept(LOGITS, temperature=1.0, top_k=3, top_p=0.7) == [0.714, 0.286, 0, 0, 0]
    assert kept(LOGITS, temperature=1.0, top_k=3, top_p=0.9) == [0.588, 0.235, 0.176, 0, 0]


def test_what_is_as_likely_as_the_last_that_is_kept_is_kept() -> None:
    tied = torch.tensor([1.0, 2.0, 1.0, 0.0, 1.0])
    for rule in ({"top_k": 2}, {"top_p": 0.5}):
        assert [one > 0 for one in kept(tied, temperature=1.0, **rule)] == [True] * 3 + [
            False,
            True,
        ]


@pytest.mark.parametrize("temperature", [0.001, 1e-39, 1e-310])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e37])
def test_a_temperature_near_zero_takes_the_likeliest(temperature: float, scale: float) -> None:
    assert kept(LOGITS * scale, temperature=temperature, top_p=0.9) == [1, 0, 0, 0, 0]
    tie = torch.tensor([scale, -scale, scale])
    assert kept(tie, temperature=temperature) == [0.5, 0, 0.5]


@given(st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=70), st.floats(0.01, 1e6))
def test_other_temperatures_are_a_plain_softmax(logits: list[float], temperature: float) -> None:
    logits_V = torch.tensor(logits)
    plain_V = torch.softmax(logits_V.double() / temperature, dim=0)
    assert_close(probabilities(logits_V, temperature=temperature), plain_V)


def test_draws_follow_the_distribution() -> None:
    num_draws = 20_000
    numbers = uniforms(np.array([key_of(0, "", 0)], np.uint64), 0, num_draws)[0]
    rules = Rules.of([Sampling(temperature=1.0)] * num_draws, 5)
    drawn = draw(LOGITS.expand(num_draws, -1).numpy(), rules, numbers)
    for index, probability in enumerate(LOGITS.exp().tolist()):
        spread = math.sqrt(probability * (1 - probability) / num_draws)
        assert (drawn == index).mean() == pytest.approx(probability, abs=4 * spread)


def test_uniforms_are_those_of_splitmix64() -> None:
    """The expected numbers are the first outputs for seed 1234567 (Vigna's splitmix64.c)."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    numbers = uniforms(np.array([1234567], np.uint64), 0, 3)[0]
    assert numbers.tolist() == [(bits >> 11) * 2.0**-53 for bits in expected]


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("num_chars", [1, 10**6], [0, -1, 1.5]),
        ("temperature", [0, 0.5, 2], [-0.1, float("nan"), float("inf")]),
        ("top_p", [0.001, 1], [0, 1.001]),
    ],
)
def test_both_ends_of_a_range(name: str, allowed: list[float], refused: list[float]) -> None:
    assert [checked_number(name, value) for value in allowed] == allowed
    for value in refused:
        with pytest.raises(TextRequestError, match=f"{name}: expected a "):
            checked_number(name, value)
