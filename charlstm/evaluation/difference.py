"""Significance of the difference between two losses.

Two sources of chance are tested at the 5 % level. A difference is real if neither source explains
it (see docs/review.md):

- The text: on another text of the same kind, the difference would vary. All models are measured
  on the same blocks of the text, so their difference has a confidence interval. The interval comes
  from the circular block bootstrap (Politis & Romano 1992), which resamples sequences of blocks,
  because neighboring blocks resemble each other. The standard error over all resamples has a
  closed form, so nothing is sampled.
- The seed: with another seed, a training of the same recipe has a different loss. Student's t-test
  gives the largest difference between mean losses that seeds alone explain.

A block has a fixed number of characters, even for a byte model. So all models that are measured on
one text have the same blocks.

Shapes: N ids, K blocks.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from charlstm.errors import CharlstmError
from charlstm.text.encoded import EncodedText, begins_character, num_chars_of

BLOCKS = "blocks.csv"
BLOCK_LEN = 500  # characters per block (see docs/review.md)
MAX_BLOCKS = 10_000  # a longer text has longer blocks, so that it has at most this many
LEVEL = 0.05
MIN_BLOCKS = 20  # with fewer blocks, the confidence interval would be too narrow
NO_INTERVAL = (
    "it has fewer than 10,000 characters, or `dvc repro evaluate` has to measure it by blocks"
)
# Largest measured standard deviation over seeds, in nats per character (docs/review.md).
SEED_DEVIATION = 0.02
POWER = 0.8  # probability that `seeds_needed` seeds reveal a true difference

Model = TypeVar("Model")


class Blocks(NamedTuple):
    """Blocks of a text with their `stateful` losses: the columns (K,) of `blocks.csv`."""

    start: NDArray[np.int64]
    """Index of the block's first character in the text, from 0."""
    num_chars: NDArray[np.int64]
    """Number of scored characters. Only the first character of the text is not scored."""
    nats: NDArray[np.float64]
    """Total loss of the scored characters in nats."""

    def align_with(self, other: "Blocks") -> bool:
        """Return whether both losses were measured on the same blocks."""
        return np.array_equal(self[:2], other[:2])


def blocks_of(nats_N: NDArray[np.float64], text: EncodedText) -> Blocks:
    """Split a text into blocks, given the loss in nats (N - 1,) of every id except the first."""
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


def read_blocks(file: Path) -> Blocks:
    """Return the blocks in a `blocks.csv`."""
    return parse_blocks(file.read_text("utf-8", errors="replace"), file)


def parse_blocks(table: str, where: object) -> Blocks:
    """Parse the content of a `blocks.csv`. Errors refer to the file as `where`.

    Raises:
        CharlstmError: the content is damaged or is not a table of blocks.
    """
    try:
        head, *rows = table.splitlines()
        start, num_chars, nats = np.array([row.split(",") for row in rows], float).T
        if head != ",".join(Blocks._fields) or not (np.isfinite(nats).all() and num_chars.all()):
            raise ValueError
    except ValueError:
        expected = f"expected the columns {', '.join(Blocks._fields)}, found invalid content"
        raise CharlstmError(
            f"{where}: {expected}; `dvc repro --force --single-item evaluate` rewrites the file"
        ) from None
    return Blocks(start.astype(np.int64), num_chars.astype(np.int64), nats)


def by_recipe(
    models: Iterable[Model], recipe: Callable[[Model], Hashable], seed: Callable[[Model], Hashable]
) -> list[list[Model]]:
    """Group models that differ only in their seed.

    If two models in a group have the same seed, they come from different code or machines. Then
    each model of the group gets a group of its own.
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
    """Format losses as `mean ± standard deviation`. A single loss has no deviation."""
    deviation = f" ± {statistics.stdev(losses):.4f}" if len(losses) > 1 else ""
    return f"{statistics.fmean(losses):.4f}{deviation}"


class RecipeLosses(NamedTuple):
    """The losses of one recipe's training runs, which differ only in the seed."""

    name: str
    """Name of the recipe in messages."""
    losses: Sequence[float]
    """Loss of each training in nats per character."""
    blocks: Sequence[Blocks | None]
    """Blocks of each training, or None if they are unknown."""

    @property
    def loss(self) -> float:
        """Mean loss over all seeds."""
        return statistics.fmean(self.losses)

    def mean_blocks(self) -> Blocks | None:
        """Return each block's mean loss over the seeds, or None if blocks are missing or differ."""
        known = [blocks for blocks in self.blocks if blocks is not None]
        if len(known) < len(self.blocks) or not all(map(known[0].align_with, known)):
            return None
        return known[0]._replace(nats=np.mean([blocks.nats for blocks in known], axis=0))


class Difference(NamedTuple):
    """The amount by which the loss of `other` exceeds the loss of `best`."""

    best: RecipeLosses
    other: RecipeLosses
    nats_per_char: float
    by_text: float | None
    """Half of the 95 % confidence interval, or None if blocks are missing or too few."""
    by_seeds: float
    """Largest difference that seeds alone explain."""
    num_seeds: int | None
    """Number of seeds per recipe that a difference of this size needs, or None if unknown."""

    @property
    def is_real(self) -> bool:
        """True if neither the choice of the text nor the seeds can explain the difference."""
        is_beyond_text = self.by_text is not None and self.nats_per_char > self.by_text
        return is_beyond_text and self.nats_per_char > self.by_seeds

    def in_numbers(self) -> str:
        """Format the difference, followed by ± half of its confidence interval if known."""
        half = "" if self.by_text is None else f" ± {self.by_text:.4f}"
        return f"{self.nats_per_char:.4f}{half}"

    def __str__(self) -> str:
        """Say which recipe has the lower loss, and whether chance may explain the difference."""
        names = f"{self.best.name} and {self.other.name}"
        if f"{self.nats_per_char:.4f}" == "0.0000":
            return f"{names} have the same loss on this text, to four decimals."

        numbers = f"{self.in_numbers()} nats per character"
        lower = f"{self.best.name} has a lower loss than {self.other.name}, by {numbers}."
        seeds = f"seeds alone make differences of up to {self.by_seeds:.4f}"
        if self.is_real:
            return f"{lower} That is more than chance: {seeds}."

        reasons = []
        if self.by_text is None:
            reasons.append(f"the uncertainty due to this text is unknown ({NO_INTERVAL})")
        elif self.nats_per_char <= self.by_text:
            reasons.append("a longer text might reverse the result")
        if self.nats_per_char <= self.by_seeds:
            more = "the same sweep with --seeds 3 tells more"
            if self.num_seeds is not None:
                num_seeds = max(
                    self.num_seeds, len(self.best.losses) + 1, len(self.other.losses) + 1
                )
                more = f"a difference of this size needs about {num_seeds:,} seeds per recipe"
            reasons.append(f"{seeds}; {more}")
        return f"{lower} Not decided: {', and '.join(reasons)}."


def compare(groups: Sequence[RecipeLosses]) -> list[Difference]:
    """Compare the recipe that has the lowest loss with every other recipe.

    All recipes must be measured on the same text. The deviation over seeds is estimated from all
    groups. For the seeds, the significance level is divided by the number of pairs (Bonferroni),
    because the best recipe was chosen by its loss.
    """
    best = min(groups, key=lambda group: group.loss)
    level = LEVEL / max(1, math.comb(len(groups), 2))
    losses = [group.losses for group in groups]
    first = best.mean_blocks()
    differences = []
    for other in groups:
        if other is not best:
            second = other.mean_blocks()
            by_text = None
            if first and second and first.align_with(second):
                by_text = half_interval(first, second)
            by_seeds = explained_by_seeds((len(best.losses), len(other.losses)), losses, level)
            nats = other.loss - best.loss
            needed = seeds_needed(nats, losses, level)
            differences.append(Difference(best, other, nats, by_text, by_seeds, needed))
    return differences


def half_interval(first: Blocks, second: Blocks) -> float | None:
    """Return half of the 95 % confidence interval of a loss difference, in nats per character.

    Both losses must be measured on the same blocks. Return None if there are too few blocks.
    """
    num_blocks = len(first.nats)
    if num_blocks < MIN_BLOCKS:
        return None
    nats_K = second.nats - first.nats
    num_chars = first.num_chars.sum()
    rest_K = nats_K - nats_K.sum() / num_chars * first.num_chars  # deviations from the mean

    # The best length of a sequence grows with the cube root of the number of blocks (Künsch 1989).
    length = math.ceil(num_blocks ** (1 / 3))
    sums = np.append(0, np.append(rest_K, rest_K[:length]).cumsum())
    runs_K = sums[length : length + num_blocks] - sums[:num_blocks]
    num_runs = num_blocks / length
    error = math.sqrt(num_runs * np.mean(runs_K**2) * num_runs / (num_runs - 1)) / num_chars
    return float(stdtrit(num_runs - 1, 1 - LEVEL / 2) * error)


def explained_by_seeds(
    sizes: tuple[int, int], groups: Sequence[Sequence[float]], level: float = LEVEL
) -> float:
    """Return the largest difference between two mean losses that the choice of seeds can explain.

    Without two seeds of any recipe, the deviation is `SEED_DEVIATION`.

    Args:
        sizes: numbers of trainings in the two means.
        groups: losses of the trainings of each recipe.
        level: probability that seeds alone make a larger difference.
    """
    freedom, deviation = _deviation_over_seeds(groups)
    scale = math.sqrt(1 / sizes[0] + 1 / sizes[1])
    return float(stdtrit(freedom or math.inf, 1 - level / 2)) * deviation * scale


def seeds_needed(nats: float, groups: Sequence[Sequence[float]], level: float) -> int | None:
    """Return how many seeds per recipe it takes to find a difference of `nats` with power `POWER`.

    The sample size is that of a t-test (Guenther 1981). It is None if no recipe has two seeds,
    or if there is no difference.
    """
    freedom, deviation = _deviation_over_seeds(groups)
    if freedom == 0 or nats == 0:
        return None
    quantile, power = (NormalDist().inv_cdf(share) for share in (1 - level / 2, POWER))
    return math.ceil(2 * ((quantile + power) * deviation / nats) ** 2 + quantile**2 / 4)


def _deviation_over_seeds(groups: Sequence[Sequence[float]]) -> tuple[int, float]:
    """Return the degrees of freedom and the pooled standard deviation."""
    several = [losses for losses in groups if len(losses) > 1]
    freedom = sum(len(losses) - 1 for losses in several)
    if not freedom:
        return 0, SEED_DEVIATION
    squares = sum((len(losses) - 1) * statistics.variance(losses) for losses in several)
    return freedom, math.sqrt(squares / freedom)
