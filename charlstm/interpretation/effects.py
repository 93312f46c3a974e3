"""How strongly cells go with labels: rank correlations, which ask for no unit and no shape of the relation.

For a yes-or-no label it is 2 AUC - 1 (the rank-biserial correlation, Cureton 1956): how much oftener the cell is higher
where the label holds than lower. For a number it is Spearman's. Both are from -1 to 1, and 0 where nothing is related.
Shapes: U cells, K labels, N characters.
"""

from collections.abc import Sequence

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
