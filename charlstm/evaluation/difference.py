"""Is one model better than another, or was it luck? Two things decide a difference of losses besides the recipes.

The text: on another text of the same kind, the difference would be another one. Both models were measured on the same
blocks, so their difference has an interval, by the circular block bootstrap (Politis & Romano 1992): the blocks are
drawn anew in runs, so that neighbors, which are alike, stay together. The standard error over all such draws has a
closed form. So nothing is drawn.

A block is a stretch of the text of so many characters, also for a model of bytes: all models that were measured on one
text have the same blocks.

The seed: a training of the same recipe with another seed has another loss. Student's test says what seeds explain of a
difference of means.

A difference is real if neither explains it, at the 5 % level. See docs/review.md.

Shapes: N ids, K blocks.
"""

import io
import math
import statistics
import warnings
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
BLOCK_LEN = 500  # characters; docs/review.md says why
MAX_BLOCKS = 10_000  # of a longer text, a block has twice as many characters, or four times, ...
LEVEL = 0.05
MIN_BLOCKS = 20  # of fewer, an interval would be too narrow
NO_INTERVAL = (
    "it has fewer than 10,000 characters, or `dvc repro evaluate` has to measure it by blocks"
)
SEED_DEVIATION = 0.02  # nats per character: the largest of the recipes and texts that were measured (docs/review.md)

Model = TypeVar("Model")


class Blocks(NamedTuple):
    """The loss under `stateful` by blocks (K,): a row of the table each."""

    start: NDArray[np.int64]
    """Of its first character, from 0."""
    num_chars: NDArray[np.int64]
    """That are scored: all but the first of the text."""
    nats: NDArray[np.float64]
    """Their sum."""

    def are_those_of(self, other: "Blocks") -> bool:
        """Whether both have the same blocks."""
        return np.array_equal(self.start, other.start) and np.array_equal(
            self.num_chars, other.num_chars
        )


def blocks_of(nats_N: NDArray[np.float64], text: EncodedText) -> Blocks:
    """The blocks of a text, from the nats of each of its ids but the first."""
    begins = np.flatnonzero(
        begins_character(np.asarray(text.ids), text.unit)
    )  # the ids with which a character begins
    length = BLOCK_LEN
    while len(begins) > length * MAX_BLOCKS:
        length *= 2
    ends = np.array([*begins[length::length], len(text)])
    starts = np.append(text.first_input + 1, ends[:-1])  # the first character is not scored
    pairs = list(zip(starts, ends, strict=True))
    num_chars = [num_chars_of(text.ids[start:end], text.unit) for start, end in pairs]
    nats = [math.fsum(nats_N[start - 1 : end - 1]) for start, end in pairs]
    return Blocks(np.arange(len(pairs)) * length, np.array(num_chars), np.array(nats))


def parse_blocks(table: str, where: object) -> Blocks:
    """The blocks of a table as stage evaluate writes it; `where` names it in an error.

    Raises:
        CharlstmError: it is no such table, or damaged.
    """
    head, _, rows = table.partition("\n")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # that it has no rows
            start, num_chars, nats = np.loadtxt(
                io.StringIO(rows), delimiter=",", ndmin=2, unpack=True
            )
        if head != ",".join(Blocks._fields) or not (np.isfinite(nats).all() and num_chars.all()):
            raise ValueError
    except (ValueError, UserWarning):
        expected = f"expected a table of {', '.join(Blocks._fields)}"
        raise CharlstmError(
            f"{where}: {expected}, found something else; `dvc repro --force --single-item evaluate` rewrites it"
        ) from None
    return Blocks(start.astype(np.int64), num_chars.astype(np.int64), nats)


def by_recipe(
    models: Iterable[Model], recipe: Callable[[Model], Hashable], seed: Callable[[Model], Hashable]
) -> list[list[Model]]:
    """Different models, those together that differ in nothing but the seed.

    Where two of them have the same seed, too, the code or the machine differed. Then each stands for itself.
    """
    together: dict[Hashable, list[Model]] = defaultdict(list)
    for one in models:
        together[recipe(one)].append(one)
    groups = []
    for alike in together.values():
        groups += [alike] if len(set(map(seed, alike))) == len(alike) else [[one] for one in alike]
    return groups


def mean_and_deviation(losses: Sequence[float]) -> str:
    """The mean ± the deviation of a sample; of one loss, the loss alone."""
    deviation = f" ± {statistics.stdev(losses):.4f}" if len(losses) > 1 else ""
    return f"{statistics.fmean(losses):.4f}{deviation}"


class RecipeLosses(NamedTuple):
    """The trainings of one recipe: a name for them, and of each its loss and its blocks, None where there are none."""

    name: str
    losses: Sequence[float]
    blocks: Sequence[Blocks | None]

    @property
    def loss(self) -> float:
        """The mean over the seeds."""
        return statistics.fmean(self.losses)

    def mean_blocks(self) -> Blocks | None:
        """The mean over the seeds; None unless all have the same blocks."""
        known = [one for one in self.blocks if one is not None]
        if len(known) < len(self.blocks) or not all(one.are_those_of(known[0]) for one in known):
            return None
        return known[0]._replace(nats=np.mean([one.nats for one in known], axis=0))


class Difference(NamedTuple):
    """How much higher the loss of `other` is than the loss of `best`, in nats per character."""

    best: RecipeLosses
    other: RecipeLosses
    nats_per_char: float
    by_text: float | None
    """Half of the 95 % interval by blocks; None where blocks are missing or too few."""
    by_seeds: float
    """The largest difference that seeds explain."""

    @property
    def is_beyond_text(self) -> bool:
        """Whether the interval excludes 0."""
        return self.by_text is not None and self.nats_per_char > self.by_text

    @property
    def is_beyond_seeds(self) -> bool:
        """Whether seeds do not explain it."""
        return self.nats_per_char > self.by_seeds

    @property
    def is_real(self) -> bool:
        """Whether neither the text nor the seeds explain it."""
        return self.is_beyond_text and self.is_beyond_seeds

    def in_numbers(self) -> str:
        """Return the difference ± half of its interval, if that is known."""
        half = "" if self.by_text is None else f" ± {self.by_text:.4f}"
        return f"{self.nats_per_char:.4f}{half}"

    def __str__(self) -> str:
        """Say which recipe has the lower loss, and whether that is decided."""
        if f"{self.nats_per_char:.4f}" == "0.0000":
            return f"{self.best.name} and {self.other.name} have the same loss on this text, to four decimals."
        numbers = f"{self.in_numbers()} nats per character"
        lower = f"{self.best.name} has a lower loss than {self.other.name}, by {numbers}."
        num_seeds = max(len(self.best.losses), len(self.other.losses))
        seeds = f"seeds alone make differences of up to {self.by_seeds:.4f}"
        if num_seeds == 1:
            seeds += ", as far as seeds were measured"
        if self.is_real:
            return f"{lower} That is more than chance: {seeds}."
        text = "more of this text might say otherwise"
        if self.by_text is None:
            text = f"how much this text decides is unknown ({NO_INTERVAL})"
        more_seeds = f"{seeds}; the same sweep with --seeds {max(3, num_seeds + 1)} tells more"
        reasons = [
            *([] if self.is_beyond_text else [text]),
            *([] if self.is_beyond_seeds else [more_seeds]),
        ]
        return f"{lower} Not decided: {', and '.join(reasons)}."


def compare(groups: Sequence[RecipeLosses]) -> list[Difference]:
    """Compare the recipe with the lowest loss with each other one; all were measured on the same text."""
    best = min(groups, key=lambda one: one.loss)
    return [difference(best, other, groups) for other in groups if other is not best]


def compare_neighbors(groups: Sequence[RecipeLosses]) -> list[Difference]:
    """Compare each recipe with the next one. `groups` are in the order of their losses, the lowest first."""
    return [difference(better, other, groups) for better, other in pairwise(groups)]


def difference(
    best: RecipeLosses, other: RecipeLosses, groups: Sequence[RecipeLosses]
) -> Difference:
    """Compare two of `groups`, whose seeds all tell how much seeds matter.

    The pair was found by looking, so the level is shared out over all pairs (Bonferroni).
    """
    first, second = best.mean_blocks(), other.mean_blocks()
    by_text = None
    if first is not None and second is not None and first.are_those_of(second):
        by_text = half_interval(first, second)
    level = LEVEL / max(1, len(groups) * (len(groups) - 1) // 2)
    sizes = (len(best.losses), len(other.losses))
    by_seeds = explained_by_seeds(sizes, [one.losses for one in groups], level)
    return Difference(best, other, other.loss - best.loss, by_text, by_seeds)


def half_interval(first: Blocks, second: Blocks) -> float | None:
    """Half of the 95 % interval of the difference in nats per character, of the same blocks; None of too few."""
    num_blocks = len(first.nats)
    if num_blocks < MIN_BLOCKS:
        return None
    nats_K, num_chars = second.nats - first.nats, first.num_chars.sum()
    rest_K = nats_K - nats_K.sum() / num_chars * first.num_chars  # what a block has above the mean
    length = math.ceil(num_blocks ** (1 / 3))  # of a run, in blocks: its best growth (Künsch 1989)
    sums = np.append(0, np.append(rest_K, rest_K[:length]).cumsum())
    runs_K = sums[length : length + num_blocks] - sums[:num_blocks]
    num_runs = num_blocks / length
    error = math.sqrt(num_runs * np.mean(runs_K**2) * num_runs / (num_runs - 1)) / num_chars
    return float(stdtrit(num_runs - 1, 1 - LEVEL / 2) * error)


def explained_by_seeds(
    sizes: tuple[int, int], groups: Sequence[Sequence[float]], level: float = LEVEL
) -> float:
    """Return the largest difference of two means of losses that is no surprise at this level if only seeds differ.

    Student's test, with the variance within all `groups`. Few seeds say little about it. So where the deviation is no
    larger than what was measured elsewhere, that value is taken as known, if the result is smaller.
    """
    freedom = sum(len(losses) - 1 for losses in groups)
    squares = sum(
        (len(losses) - 1) * statistics.variance(losses) for losses in groups if len(losses) > 1
    )
    scale = math.sqrt(1 / sizes[0] + 1 / sizes[1])
    known = statistics.NormalDist().inv_cdf(1 - level / 2) * SEED_DEVIATION * scale
    if freedom == 0:
        return known
    deviation = math.sqrt(squares / freedom)
    found = float(stdtrit(freedom, 1 - level / 2)) * deviation * scale
    return min(found, known) if deviation <= SEED_DEVIATION else found
