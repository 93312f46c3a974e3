"""The rank correlation of a cell with a label, which assumes no unit and no shape of the relation.

For a number it is Spearman's, in which ties of the cell count against it. For a yes-or-no label it is 2 AUC - 1 (the
rank-biserial correlation, Cureton 1956): how much more often the cell is higher where the label holds.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from charlstm.interpretation.labels import Floats

MIN_SHIFT = 500  # characters
Cells = NDArray[np.float16]


def ranks(values_N: NDArray[np.generic]) -> Floats:
    """Ranks of numbers, less their mean; equal numbers share one."""
    ranks_N = pd.Series(values_N.astype(np.float32)).rank().to_numpy(np.float64)
    centered_N: Floats = ranks_N - ranks_N.mean()
    return centered_N


def weights(values_N: NDArray[np.generic]) -> Floats:
    """What gives the effect of a label that varies, multiplied with the `ranks` of a cell."""
    num_chars = len(values_N)
    if values_N.dtype == np.bool_:
        share = np.count_nonzero(values_N) / num_chars
        weights_N: Floats = np.where(values_N, 1 / share, -1 / (1 - share)) * 2 / num_chars**2
    else:
        weights_N = ranks(values_N)
        weights_N /= np.linalg.norm(weights_N) * np.linalg.norm(ranks(np.arange(num_chars)))
    return weights_N


def effect_and_p(cell_N: Cells, values_N: NDArray[np.generic]) -> tuple[float, float]:
    """A cell's effect, and how often it is as large with the label moved along the text, round from end to start.

    Neighboring characters are alike, so labels that are shuffled one by one would make anything significant. Moved
    ones are as alike as before, and only their relation to the cell is lost.
    """
    spectrum = np.fft.rfft(ranks(cell_N)) * np.conj(np.fft.rfft(weights(values_N)))
    moved_N = np.fft.irfft(spectrum, len(cell_N))  # by 0, 1, ... characters
    moved_S = np.abs(moved_N[MIN_SHIFT : len(moved_N) - MIN_SHIFT + 1])
    return float(moved_N[0]), (1 + int((moved_S >= abs(moved_N[0])).sum())) / (1 + len(moved_S))
