"""A text beside what a cell did in it: an excerpt with the cell's states, and the places where they are extreme.

States are c, not tanh(c): a counter may count on where tanh has long been 1. Shapes: N characters.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.interpretation.effects import ranks_of_label
from charlstm.interpretation.labels import Label

EXCERPT_LEN = 1_000  # characters
NUM_CONTEXTS = 4  # at either end
BEFORE, AFTER = 48, 12  # characters of a context
APART = 200  # characters between two contexts, at least
FULL = 100  # the level of an extreme state


class Place(NamedTuple):
    """A character, by its number from 0, and the cell state there."""

    at: int
    state: float


def excerpt_start(label: Label, line_ends: NDArray[np.intp]) -> int:
    """Where an excerpt begins that shows a label's values: the choice knows nothing of any cell.

    It is the first line whose EXCERPT_LEN characters have at least half of the variance of the most varied excerpt's.
    """
    ranks_N = ranks_of_label(label)
    sums, squares = (np.concatenate(([0.0], np.cumsum(ranks_N**power))) for power in (1, 2))
    starts = line_ends[line_ends < len(ranks_N) - EXCERPT_LEN] + 1
    starts = starts if len(starts) else np.arange(0, len(ranks_N) - EXCERPT_LEN + 1, EXCERPT_LEN // 4)
    means, mean_squares = ((one[starts + EXCERPT_LEN] - one[starts]) / EXCERPT_LEN for one in (sums, squares))
    variances = mean_squares - means**2
    return int(starts[np.argmax(variances >= variances.max() / 2)])


def levels(cell_N: NDArray[np.float16], shown: slice) -> list[int]:
    """Cell states at some characters as whole numbers: 0 is the median of all, ±FULL or beyond is FULL.

    FULL is as far from the median as the farther one of the 1st and the 99th percentile.
    """
    states_N = cell_N.astype(np.float32)
    low, median, high = np.quantile(states_N, (0.01, 0.5, 0.99))
    scale = max(high - median, median - low, np.finfo(np.float32).tiny)
    return [int(one) for one in np.rint((states_N[shown] - median) / scale * FULL).clip(-FULL, FULL)]


def extremes(cell_N: NDArray[np.float16], *, highest: bool) -> list[Place]:
    """The NUM_CONTEXTS places with the highest or lowest states, the utmost first; at least APART from each other."""
    order = np.argsort(-cell_N if highest else cell_N, kind="stable")
    found: list[Place] = []
    for index in order:
        if all(abs(int(index) - one.at) >= APART for one in found):
            found.append(Place(int(index), float(cell_N[index])))
        if len(found) == NUM_CONTEXTS:
            break
    return found
