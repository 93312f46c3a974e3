"""Error rates of the comparison of models, and its tests against other formulas."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from charlstm.evaluation.difference import (
    LEVEL,
    MIN_BLOCKS,
    SEED_DEVIATION,
    Blocks,
    RecipeLosses,
    compare,
    explained_by_seeds,
    half_interval,
    seeds_needed,
)

NUM_BLOCKS = 100
NUM_CHARS = 500
TIMES = 2000
# Standard deviations of simulated losses, near those of real trainings.
BY_SEED = 0.006
BY_BLOCK = 0.02


def blocks(nats_per_char: Sequence[float]) -> Blocks:
    starts = np.arange(len(nats_per_char)) * NUM_CHARS
    return Blocks(starts, np.full(len(starts), NUM_CHARS), np.array(nats_per_char) * NUM_CHARS)


def trainings(
    generator: np.random.Generator, number: int, mean: float = 1.5, name: str = "one"
) -> RecipeLosses:
    """Return trainings of one recipe. Their losses vary by block, by seed and by chance."""
    # The text's own variation is the same for all recipes.
    of_all = np.random.default_rng(0).normal(0, 0.2, NUM_BLOCKS)
    by_seed = generator.normal(0, BY_SEED, (number, 1))
    losses = mean + of_all + by_seed + generator.normal(0, BY_BLOCK, (number, NUM_BLOCKS))
    return RecipeLosses(name, losses.mean(1).tolist(), [blocks(one) for one in losses.tolist()])


def share_of_real(sizes: tuple[int, int], gain: float, times: int = TIMES) -> float:
    """Return how often a difference of `gain` is called real."""
    generator = np.random.default_rng(1)
    num_real = 0
    for _ in range(times):
        pair = [trainings(generator, sizes[0]), trainings(generator, sizes[1], 1.5 + gain)]
        num_real += compare(pair)[0].is_real
    return num_real / times


@pytest.mark.parametrize("sizes", [(1, 1), (2, 1), (2, 2), (3, 3)])
def test_luck_is_rarely_called_real(sizes: tuple[int, int]) -> None:
    """The share is at most 5 %, with a tolerance of three standard errors."""
    share = share_of_real(sizes, 0.0)
    assert share <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / TIMES)


def test_among_many_recipes_luck_is_no_more_often_real() -> None:
    generator = np.random.default_rng(3)
    num_alarms = 0
    for _ in range(500):
        recipes = [trainings(generator, 3, name=str(recipe)) for recipe in range(5)]
        num_alarms += any(one.is_real for one in compare(recipes))
    assert num_alarms / 500 <= LEVEL


@pytest.mark.parametrize(("num_blocks", "correlation"), [(20, 0.0), (60, 0.3)])
def test_the_interval_has_the_mean_of_all_texts_in_it(num_blocks: int, correlation: float) -> None:
    """The share is 95 %, or at least 90 % if neighboring blocks correlate."""
    generator = np.random.default_rng(4)
    hits = 0
    for _ in range(TIMES):
        noise = generator.normal(size=num_blocks + 20)
        values = [0.0]
        for one in noise:
            values.append(correlation * values[-1] + one)
        kept = values[-num_blocks:]
        half = half_interval(blocks([0.0] * num_blocks), blocks(kept))
        assert half is not None
        hits += abs(statistics.fmean(kept)) <= half
    assert hits / TIMES > (0.90 if correlation else 0.94)


def test_the_standard_error_is_that_of_blocks_drawn_anew() -> None:
    """The reference is a circular block bootstrap with draws, for blocks of unequal length."""
    generator = np.random.default_rng(5)
    num_chars = np.array([NUM_CHARS - 1] + [NUM_CHARS] * 62 + [200])
    first = Blocks(np.arange(64) * NUM_CHARS, num_chars, np.zeros(64))
    second = first._replace(nats=generator.normal(0.01, 0.05, 64) * num_chars)
    starts = generator.integers(0, 64, (20_000, 16))
    # 16 runs of 4 blocks: 4 is the cube root of 64.
    drawn = (starts[:, :, None] + np.arange(4)).reshape(len(starts), -1) % 64
    error = (second.nats[drawn].sum(1) / num_chars[drawn].sum(1)).std() * math.sqrt(16 / 15)
    assert half_interval(first, second) == pytest.approx(stats.t.ppf(0.975, 15) * error, rel=0.03)


def test_the_order_does_not_matter_and_few_blocks_have_no_interval() -> None:
    generator = np.random.default_rng(6)
    pair = [blocks(generator.normal(1.5, 0.1, MIN_BLOCKS).tolist()) for _ in range(2)]
    assert half_interval(*pair) == half_interval(*reversed(pair)) != 0
    assert half_interval(pair[0], pair[0]) == 0
    assert half_interval(*(blocks([1.0] * (MIN_BLOCKS - 1)) for _ in range(2))) is None


@pytest.mark.parametrize(
    ("first", "second"), [([1.0, 1.2], [1.5, 1.9, 1.6]), ([1.0, 1.1, 1.5], [1.4, 1.41, 1.42])]
)
def test_seeds_explain_as_much_as_in_students_test(first: list[float], second: list[float]) -> None:
    p = stats.ttest_ind(first, second).pvalue
    # The difference that is just explained at its own p value.
    found = explained_by_seeds((len(first), len(second)), [first, second], p)
    assert found == pytest.approx(abs(statistics.fmean(first) - statistics.fmean(second)), rel=1e-9)


def test_all_recipes_tell_how_much_seeds_matter() -> None:
    pair = [[1.5, 1.6], [1.7]]
    assert explained_by_seeds((2, 1), [*pair, [1.5, 1.6, 1.55]]) < explained_by_seeds((2, 1), pair)
    known = stats.norm.ppf(0.975) * SEED_DEVIATION * math.sqrt(2)
    assert explained_by_seeds((1, 1), [[1.5], [1.7]]) == pytest.approx(known)


def test_the_seeds_needed_find_a_difference_four_times_out_of_five() -> None:
    """The text varies little here, so that seeds alone decide."""
    generator = np.random.default_rng(7)
    many = [trainings(generator, 200, name=name).losses for name in ("A", "B")]
    number = seeds_needed(2 * BY_SEED, many, LEVEL) or 0
    assert share_of_real((number - 1, number - 1), 2 * BY_SEED, 1000) < 0.8
    assert share_of_real((number, number), 2 * BY_SEED, 1000) > 0.75
    assert seeds_needed(0.1, [[1.5], [1.6]], LEVEL) is seeds_needed(0, many, LEVEL) is None


def test_without_blocks_nothing_is_real() -> None:
    best = RecipeLosses("A", [1.400, 1.401], [None, None])
    other = RecipeLosses("B", [1.5, 1.501], [blocks([1.5] * 30)] * 2)
    (found,) = compare([best, other])
    assert found.by_text is None and not found.is_real
    assert "Not decided: the uncertainty due to this text is unknown (it has" in str(found)
    (other_text,) = compare([best._replace(blocks=[blocks([1.4] * 31)] * 2), other])
    assert other_text.by_text is None


def test_one_seed_each_is_enough_for_a_large_difference_alone() -> None:
    def said(*losses: float) -> str:
        recipes = [
            RecipeLosses(name, values, [blocks([value] * 30) for value in values])
            for name, values in (("A", [1.4] * len(losses)), ("B", losses))
        ]
        return str(compare(recipes)[0])

    seeds = "seeds alone make differences of up to 0.0554"
    assert said(1.6634).endswith(f"That is more than chance: {seeds}.")
    assert said(1.41).endswith(f"Not decided: {seeds}; the same sweep with --seeds 3 tells more.")
    assert said(1.55, 1.65).endswith("needs about 3 seeds per recipe.")
