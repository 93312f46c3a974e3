"""How strongly cells go with labels: rank correlations, which ask for no unit and no shape of the relation.

For a yes-or-no label it is 2 AUC - 1 (the rank-biserial correlation, Cureton 1956): how much oftener the cell is higher
where the label holds than lower. For a number it is Spearman's. Both are from -1 to 1, and 0 where nothing is related.
Shapes: U cells, K labels, N characters.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.interpretation.labels import Label

Floats = NDArray[np.float64]
NUM_STATES = 2**14  # that are told apart between the lowest and the highest of a cell
MIN_FALLS = 5  # from yes to no, or to a smaller number


def varies(label: Label) -> bool:
    """Whether a label falls often enough for anything to be said of it."""
    return int((np.diff(label.values_N.astype(np.int64)) < 0).sum()) >= MIN_FALLS


def effects(cells_UN: NDArray[np.float16], labels: Sequence[Label]) -> Floats:
    """The effects (U, K) of labels that vary."""
    weights_KN = np.stack([_weights(label) for label in labels])
    return np.stack([weights_KN @ ranks_of(cell_N) for cell_N in cells_UN])


def best_cells(effects_UK: Floats) -> NDArray[np.intp]:
    """The cell with the largest effect on each label, in either direction."""
    cells_K: NDArray[np.intp] = np.abs(effects_UK).argmax(0)
    return cells_K


def shifted_effects(cell_N: NDArray[np.float16], label: Label) -> Floats:
    """The effects (N) of one cell with the label shifted by 0, 1, ... characters, round from the end to the start."""
    spectrum = np.fft.rfft(ranks_of(cell_N)) * np.conj(np.fft.rfft(_weights(label)))
    return np.fft.irfft(spectrum, len(cell_N))


def ranks_of(cell_N: NDArray[np.float16]) -> Floats:
    """Ranks of cell states, mean 0 and length 1; nearly equal ones share a rank. All 0 for a cell that never moves."""
    states_N = cell_N.astype(np.float32)
    low, high = states_N.min(), states_N.max()
    scale = (NUM_STATES - 1) / ((high - low) or 1)
    return _unit(_mid_ranks(((states_N - low) * scale).astype(np.int64), NUM_STATES))


def ranks_of_label(label: Label) -> Floats:
    """Ranks (N) of a label's values, mean 0 and length 1; equal values share a rank."""
    _, codes_N = np.unique(label.values_N, return_inverse=True)
    return _unit(_mid_ranks(codes_N, int(codes_N.max()) + 1))


def _weights(label: Label) -> Floats:
    """What ranks (N) of length 1 are multiplied with to give the effect."""
    if not label.is_yes_or_no:
        return ranks_of_label(label)
    num_chars = len(label.values_N)
    share = label.values_N.mean()
    per_char_N = np.where(label.values_N, 1 / share, -1 / (1 - share)) / num_chars
    length_of_untied_ranks = (num_chars * (num_chars**2 - 1) / 12) ** 0.5
    weights_N: Floats = per_char_N * (2 / num_chars * length_of_untied_ranks)
    return weights_N


def _mid_ranks(codes_N: NDArray[np.integer], num_codes: int) -> Floats:
    counts = np.bincount(codes_N, minlength=num_codes)
    ranks_N: Floats = (np.cumsum(counts) - counts / 2)[codes_N]
    return ranks_N


def _unit(values_N: Floats) -> Floats:
    centered_N = values_N - values_N.mean()
    length = float(np.linalg.norm(centered_N))
    unit_N: Floats = centered_N / (length or 1.0)
    return unit_N


# A text beside what a cell did in it: an excerpt with the cell's states, and the places where they are extreme.
#
# States are c, not tanh(c): a counter may count on where tanh has long been 1. Shapes: N characters.

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
