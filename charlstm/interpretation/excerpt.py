"""Excerpt of a text, colored by the state of a cell.

The state is c, not tanh(c): a counter may continue to count where tanh is saturated at 1.
"""

import numpy as np
from numpy.typing import NDArray

from charlstm.interpretation.correlation import Cells, ranks

EXCERPT_LEN = 1_000  # characters
FULL = 100  # level of the most extreme states


def excerpt_start(values_N: NDArray[np.generic], line_starts: list[int]) -> int:
    """Find the first line from which an excerpt would show a label well. Return its start.

    The label's variance in the excerpt is at least half of the largest variance in any excerpt. The
    choice does not depend on any cell.
    """
    ranks_N = ranks(values_N)
    starts = [start for start in line_starts if start + EXCERPT_LEN <= len(ranks_N)]
    variances = np.array([ranks_N[start : start + EXCERPT_LEN].var() for start in starts])
    return starts[int(np.argmax(variances >= variances.max() / 2))]


def levels(cell_N: Cells, shown: slice) -> list[int]:
    """Convert the cell states in the slice `shown` to levels from -FULL to FULL.

    0 is the median of all states. FULL is the distance from the median to the 1st or the 99th
    percentile, whichever is farther.
    """
    states_N = cell_N.astype(np.float32)
    low, median, high = np.quantile(states_N, (0.01, 0.5, 0.99))
    scale = max(high - median, median - low, np.finfo(np.float32).tiny)
    levels_N = np.rint((states_N[shown] - median) / scale * FULL).clip(-FULL, FULL)
    return [int(level) for level in levels_N]
