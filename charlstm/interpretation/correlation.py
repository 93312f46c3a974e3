"""Rank correlation of a cell with a label, which depends on neither scale nor linearity.

For a label with numbers, the correlation is Spearman's, and ties of the cell reduce it. For a
yes-or-no label, the correlation is 2 AUC - 1 (the rank-biserial correlation, Cureton 1956): how
much more often the cell is higher where the label holds.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from charlstm.interpretation.labels import Floats

MIN_SHIFT = 500  # characters
Cells = NDArray[np.float16]


def ranks(values_N: NDArray[np.generic]) -> Floats:
    """Rank numbers and subtract the mean rank. Equal numbers have the same rank."""
    ranks_N = pd.Series(values_N.astype(np.float32)).rank().to_numpy(np.float64)
    centered_N: Floats = ranks_N - ranks_N.mean()
    return centered_N


def weights(values_N: NDArray[np.generic]) -> Floats:
    """Return a label's weights (N,). Their dot product with a cell's `ranks` is the effect."""
    num_chars = len(values_N)
    if values_N.dtype == np.bool_:
        share = np.count_nonzero(values_N) / num_chars
        weights_N: Floats = np.where(values_N, 1 / share, -1 / (1 - share)) * 2 / num_chars**2
    else:
        weights_N = ranks(values_N)
        weights_N /= np.linalg.norm(weights_N) * np.linalg.norm(ranks(np.arange(num_chars)))
    return weights_N


def effect_and_p(cell_N: Cells, values_N: NDArray[np.generic]) -> tuple[float, float]:
    """Return the rank correlation (effect) of a cell with a label, and the effect's p-value.

    The p-value is the fraction of circular shifts of the label along the text for which the effect
    is at least as large. Neighboring characters are similar, so with randomly permuted labels every
    effect would be significant. A shift keeps this similarity and removes only the relation to the
    cell.
    """
    spectrum = np.fft.rfft(ranks(cell_N)) * np.conj(np.fft.rfft(weights(values_N)))
    effects_N = np.fft.irfft(spectrum, len(cell_N))  # with labels shifted by 0, 1, ... characters
    shifted_S = np.abs(effects_N[MIN_SHIFT : len(effects_N) - MIN_SHIFT + 1])
    num_as_large = int((shifted_S >= abs(effects_N[0])).sum())
    return float(effects_N[0]), (1 + num_as_large) / (1 + len(shifted_S))
