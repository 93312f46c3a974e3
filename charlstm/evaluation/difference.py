"""Significance of the difference between two losses.

Two sources of chance are tested at the 5 % level. A difference is real if neither explains it (see
docs/review.md):

- The text: on another text of the same kind, the difference would be another. All models are
  measured on the same blocks of the text, so their difference has a confidence interval. It comes
  from the circular block bootstrap (Politis & Romano 1992), which resamples runs of blocks, since
  neighboring blocks resemble each other. The standard error over all resamples has a closed form,
  so nothing is sampled.
- The seed: with another seed, a training of the same recipe has another loss. Student's t-test
  gives the largest difference of mean losses that seeds explain.

A block has a fixed number of characters, also for a byte model. So all models that are measured on
one text have the same blocks.

Shapes: N ids, K blocks.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from charlstm.errors import CharlstmError
from charlstm.text.encoded import EncodedText, begins_character, num_chars_of

BLOCKS = "blocks.csv"
BLOCK_LEN = 500  # characters; docs/review.md gives the reason
MAX_BLOCKS = 10_000  # of a longer text, the length of a block is doubled until this is enough
LEVEL = 0.05
MIN_BLOCKS = 20  # with fewer, the interval would be too narrow
NO_INTERVAL = (
    "it has fewer than 10,000 characters, or `dvc repro evaluate` has to measure it by blocks"
)
# In nats per character: the largest deviation of the measured recipes and texts (docs/review.md).
SEED_DEVIATION = 0.02

Model = TypeVar("Model")


class Blocks(NamedTuple):
    """The loss under `stateful` by blocks of a text (K,): the columns of `blocks.csv`."""

    start: NDArray[np.int64]
    """Index of the block's first character in the text, from 0."""
    num_chars: NDArray[np.int64]
    """Number of scored characters: all characters of the text except the first."""
    nats: NDArray[np.float64]
    """Sum of the nats of the scored characters."""

    def align_with(self, other: "Blocks") -> bool:
        """Return whether both losses are of the same blocks."""
        return np.array_equal(self[:2], other[:2])


def blocks_of(nats_N: NDArray[np.float64], text: EncodedText) -> Blocks:
    """Return the blocks of a text from the nats (N - 1,) of its ids except the first."""
    begins = np.flatnonzero(begins_character(np.asarray(text.ids), text.unit))
    length = BLOCK_LEN
    while len(begins) > length * MAX_BLOCKS:
        length *= 2

    ends = np.array([*begins[length::length], len(text)])
    # The first character is not scored.
    starts = np.append(text.first_input + 1, ends[:-1])
    pairs = list(zip(starts, ends, strict=True))
    num_chars = [num_chars_of(text.ids[start:end], text.unit) for start, end in pairs]
    nats = [math.fsum(nats_N[start - 1 : end - 1]) for start, end in pairs]
    return Blocks(np.arange(len(pairs)) * length, np.array(num_chars), np.array(nats))


def parse_blocks(table: str, where: object) -> Blocks:
    """Return the blocks in the text of a `blocks.csv`. `where` names the table in an error.

    Raises:
        CharlstmError: the table is damaged or another table.
    """
    try:
        head, *rows = table.splitlines()
        start, num_chars, nats = np.array([row.split(",") for row in rows], float).T
        if head != ",".join(Blocks._fields) or not (np.isfinite(nats).all() and num_chars.all()):
            raise ValueError
    except ValueError:
        expected = f"expected a table of {', '.join(Blocks._fields)}, found something else"
        raise CharlstmError(
            f"{where}: {expected}; `dvc repro --force --single-item evaluate` rewrites it"
        ) from None
    return Blocks(start.astype(np.int64), num_chars.astype(np.int64), nats)


def by_recipe(
    models: Iterable[Model], recipe: Callable[[Model], Hashable], seed: Callable[[Model], Hashable]
) -> list[list[Model]]:
    """Return different models in groups that differ in nothing but the seed.

    If two models of a group have the same seed, their code or machine differed. Then each model of
    the group becomes a group.
    """
    together: dict[Hashable, list[Model]] = defaultdict(list)
    for model in models:
        together[recipe(model)].append(model)
    groups = []
    for group in together.values():
        has_seeds = len(set(map(seed, group))) == len(group)
        groups += [group] if has_seeds else [[model] for model in group]
    return groups


def mean_and_deviation(losses: Sequence[float]) -> str:
    """Return `mean ± standard deviation` of losses, or the loss alone if there is only one."""
    deviation = f" ± {statistics.stdev(losses):.4f}" if len(losses) > 1 else ""
    return f"{statistics.fmean(losses):.4f}{deviation}"


class RecipeLosses(NamedTuple):
    """The results of one recipe's trainings, which differ in the seed alone."""

    name: str
    """Name of the recipe in messages."""
    losses: Sequence[float]
    """Loss of each training in nats per character."""
    blocks: Sequence[Blocks | None]
    """Blocks of each training, None if they are unknown."""

    @property
    def loss(self) -> float:
        """Mean loss over the seeds."""
        return statistics.fmean(self.losses)

    def mean_blocks(self) -> Blocks | None:
        """Return the mean blocks over the seeds, or None unless all trainings have the same."""
        known = [blocks for blocks in self.blocks if blocks is not None]
        if len(known) < len(self.blocks) or not all(map(known[0].align_with, known)):
            return None
        return known[0]._replace(nats=np.mean([blocks.nats for blocks in known], axis=0))


class Difference(NamedTuple):
    """The difference by which the loss of `other` is higher than the loss of `best`."""

    best: RecipeLosses
    other: RecipeLosses
    nats_per_char: float
    by_text: float | None
    """Half of the 95 % interval by blocks. None: blocks are missing or too few."""
    by_seeds: float
    """Largest difference that seeds explain."""

    @property
    def is_beyond_text(self) -> bool:
        """True if the interval by blocks excludes 0."""
        return self.by_text is not None and self.nats_per_char > self.by_text

    @property
    def is_beyond_seeds(self) -> bool:
        """True if the difference is larger than seeds explain."""
        return self.nats_per_char > self.by_seeds

    @property
    def is_real(self) -> bool:
        """True if neither the text nor the seeds explain the difference."""
        return self.is_beyond_text and self.is_beyond_seeds

    def in_numbers(self) -> str:
        """Return the difference, with ± half of its interval if that is known."""
        half = "" if self.by_text is None else f" ± {self.by_text:.4f}"
        return f"{self.nats_per_char:.4f}{half}"

    def __str__(self) -> str:
        """Say which recipe has the lower loss, and whether chance may explain the difference."""
        names = f"{self.best.name} and {self.other.name}"
        if f"{self.nats_per_char:.4f}" == "0.0000":
            return f"{names} have the same loss on this text, to four decimals."

        numbers = f"{self.in_numbers()} nats per character"
        lower = f"{self.best.name} has a lower loss than {self.other.name}, by {numbers}."
        num_seeds = max(len(self.best.losses), len(self.other.losses))
        seeds = f"seeds alone make differences of up to {self.by_seeds:.4f}"
        if num_seeds == 1:
            seeds += ", as far as seeds were measured"
        if self.is_real:
            return f"{lower} That is more than chance: {seeds}."

        reasons = []
        if self.by_text is None:
            reasons.append(f"how much this text decides is unknown ({NO_INTERVAL})")
        elif not self.is_beyond_text:
            reasons.append("more of this text might say otherwise")
        if not self.is_beyond_seeds:
            more = f"the same sweep with --seeds {max(3, num_seeds + 1)} tells more"
            reasons.append(f"{seeds}; {more}")
        return f"{lower} Not decided: {', and '.join(reasons)}."


def compare(groups: Sequence[RecipeLosses]) -> list[Difference]:
    """Return the difference of every other recipe from the recipe with the lowest loss.

    All recipes must be measured on the same text.
    """
    best = min(groups, key=lambda group: group.loss)
    return [difference(best, other, groups) for other in groups if other is not best]


def compare_neighbors(groups: Sequence[RecipeLosses]) -> list[Difference]:
    """Return the difference of each recipe from the previous one. The lowest loss is first."""
    return [difference(better, other, groups) for better, other in pairwise(groups)]


def difference(
    best: RecipeLosses, other: RecipeLosses, groups: Sequence[RecipeLosses]
) -> Difference:
    """Return the difference of two recipes of `groups`.

    The deviation of the seeds is estimated from all groups. The level is divided by the number of
    all pairs (Bonferroni), because the pair was chosen by its losses.
    """
    first = best.mean_blocks()
    second = other.mean_blocks()
    by_text = (
        half_interval(first, second) if first and second and first.align_with(second) else None
    )
    level = LEVEL / max(1, math.comb(len(groups), 2))
    sizes = (len(best.losses), len(other.losses))
    by_seeds = explained_by_seeds(sizes, [group.losses for group in groups], level)
    return Difference(best, other, other.loss - best.loss, by_text, by_seeds)


def half_interval(first: Blocks, second: Blocks) -> float | None:
    """Return half of the 95 % interval of a difference in nats per character.

    Both losses must be of the same blocks. Return None if there are too few blocks.
    """
    num_blocks = len(first.nats)
    if num_blocks < MIN_BLOCKS:
        return None
    nats_K = second.nats - first.nats
    num_chars = first.num_chars.sum()
    rest_K = nats_K - nats_K.sum() / num_chars * first.num_chars  # deviations from the mean

    # The best length of a run, in blocks, grows as the cube root of their number (Künsch 1989).
    length = math.ceil(num_blocks ** (1 / 3))
    sums = np.append(0, np.append(rest_K, rest_K[:length]).cumsum())
    runs_K = sums[length : length + num_blocks] - sums[:num_blocks]
    num_runs = num_blocks / length
    error = math.sqrt(num_runs * np.mean(runs_K**2) * num_runs / (num_runs - 1)) / num_chars
    return float(stdtrit(num_runs - 1, 1 - LEVEL / 2) * error)


def explained_by_seeds(
    sizes: tuple[int, int], groups: Sequence[Sequence[float]], level: float = LEVEL
) -> float:
    """Return the largest difference of two mean losses that seeds explain at `level`.

    It is that of Student's t-test, with the variance within all groups. A few seeds are a poor
    estimate of the deviation. So if the estimate is at most `SEED_DEVIATION`, the result is at most
    that of a known deviation of `SEED_DEVIATION`.

    Args:
        sizes: numbers of trainings in the two means.
        groups: losses of the trainings of each recipe.
        level: probability that seeds alone make a larger difference.
    """
    freedom = sum(len(losses) - 1 for losses in groups)
    scale = math.sqrt(1 / sizes[0] + 1 / sizes[1])
    known = statistics.NormalDist().inv_cdf(1 - level / 2) * SEED_DEVIATION * scale
    if freedom == 0:
        return known
    squares = sum(
        (len(losses) - 1) * statistics.variance(losses) for losses in groups if len(losses) > 1
    )
    deviation = math.sqrt(squares / freedom)
    found = float(stdtrit(freedom, 1 - level / 2)) * deviation * scale
    return min(found, known) if deviation <= SEED_DEVIATION else found
