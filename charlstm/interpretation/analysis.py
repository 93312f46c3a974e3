"""Analysis of single cells: for each label of a text, the cell with the strongest relation to it.

The cell is chosen on one half of the text and confirmed on the other half, because among hundreds
of cells some correlate with any label by chance. After Karpathy, Johnson & Li (2015), "Visualizing
and Understanding Recurrent Networks". `cells.json` and `cells.csv` hold the findings, with numbers
rounded to four significant digits. A change of the fields requires a new `schema_version`.

Shapes: B rows, T time steps, L layers, H hidden units, U = L H cells, K labels, N characters.
"""

from functools import partial
from typing import Annotated, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator

from charlstm.evaluation.results import Count, Document, read_document
from charlstm.interpretation.labels import Floats, Label, labels_of
from charlstm.model.char_lstm import CharLSTM
from charlstm.text.vocabulary import Ids, Vocab

Cells = NDArray[np.float16]
MIN_SHIFT = 500  # characters
EXCERPT_LEN = 1_000  # characters
FULL = 100  # level of the most extreme states

WARM_UP = 200  # characters read before each row, so that the row starts from a typical state
ROW_LEN = 1_000  # characters; the length of each half of the text is a multiple of this
MIN_HALF = 2_000  # characters
MAX_HALF = 50_000  # characters
MIN_CHARS = WARM_UP + 2 * MIN_HALF
MAX_CELL_STATES = 2**26  # states in both halves, to limit memory (two bytes per state)
MIN_FALLS = 5  # a label must fall at least this often: from yes to no, or to a smaller number
SIGNIFICANT = 0.05  # significance level, which is divided by the number of labels
CELLS = "cells.json"
CELLS_TABLE = "cells.csv"
# Significant digits after the fourth depend on the machine.
Rounded = Annotated[float, AfterValidator(lambda value: float(f"{value:.4g}"))]


class Tracked(Document):
    """A label, and the cell that is most strongly correlated with the label."""

    label: str
    meaning: str
    is_yes_or_no: bool
    layer: Count
    """Number of the layer, starting at 1 at the bottom."""
    unit: Count
    """Number of the unit in the layer, starting at 0."""
    effect_found: Rounded
    """Effect from -1 to 1 on the first half of the text, where the cell was chosen."""
    effect_again: Rounded
    """Effect on the second half."""
    p_value: Rounded
    """Fraction of shifts of the label along the second half that have at least this effect."""
    is_confirmed: bool
    excerpt: str
    """Excerpt of the second half, empty if the label is not confirmed."""
    levels: list[int]
    """Level of the cell state at each character of the excerpt, see `excerpt.levels`."""


class CellsDocument(Document):
    """Findings about the cells of one model."""

    schema_version: Literal[2]
    reason: str | None
    """Reason why there are no findings. None if there are findings."""
    num_cells: Count
    num_chars: Count = 0
    """Number of characters in each half of the text."""
    tested: list[Tracked] = []


read_cells = partial(
    read_document, kind=CellsDocument, what="the analysis of single cells", stage="evaluate"
)


def cells_table(document: CellsDocument) -> pd.DataFrame:
    """Return a table with a row for each label."""
    hidden = {"meaning", "excerpt", "levels"}
    columns = [name for name in Tracked.model_fields if name not in hidden]
    rows = [one.model_dump(exclude=hidden) for one in document.tested]
    return pd.DataFrame(rows, columns=columns)


def analyse_cells(model: CharLSTM, vocab: Vocab, ids: Ids) -> CellsDocument:
    """Find out what single cells track in a text on which the model was not trained.

    If the text is too short or no label varies, the document has a reason and no labels.
    """
    num_cells = model.shape.num_layers * model.shape.hidden_size

    def nothing(reason: str) -> CellsDocument:
        return CellsDocument(schema_version=2, reason=reason, num_cells=num_cells)

    if vocab.unit == "byte":
        return nothing("labels describe characters, and this is a byte model")
    if len(ids) < MIN_CHARS:
        return nothing(f"the text has {len(ids):,} characters; at least {MIN_CHARS:,} are needed")
    most = max(2 * MIN_HALF, min(2 * MAX_HALF, MAX_CELL_STATES // num_cells))
    half = min(len(ids) - WARM_UP, most) // 2 // ROW_LEN * ROW_LEN
    read = ids[: WARM_UP + 2 * half]
    cut = [one._replace(values_N=one.values_N[WARM_UP:]) for one in labels_of(read, vocab)]
    labels = [one for one in cut if varies(one.values_N[:half]) and varies(one.values_N[half:])]
    if not labels:
        return nothing("no label varies enough in both halves of the text")
    cells_UN = cell_states(model, read)
    tested = find(cells_UN, labels, vocab.decode(read[-half:].tolist()), model.shape.hidden_size)
    return CellsDocument(
        schema_version=2, reason=None, num_cells=num_cells, num_chars=half, tested=tested
    )


def varies(values_N: NDArray[np.generic]) -> bool:
    """Return whether a label changes often enough to be tested."""
    return int((np.diff(values_N.astype(np.int64)) < 0).sum()) >= MIN_FALLS


@torch.no_grad()
def cell_states(model: CharLSTM, ids: Ids) -> Cells:
    """Return all cells' states (U, N), layer by layer, after each character from WARM_UP on.

    Rows of ROW_LEN characters are read in parallel, each after the WARM_UP characters before it.
    """
    starts_B = np.arange(0, len(ids) - WARM_UP, ROW_LEN)
    rows_BT = ids[starts_B[:, None] + np.arange(WARM_UP + ROW_LEN)].astype(np.int64)
    inputs_BT = torch.from_numpy(rows_BT).to(model.head.weight.device)
    state = model.zero_state(len(inputs_BT))
    cells_TLBH = torch.empty((ROW_LEN, *state.cell.shape), dtype=torch.float16)
    # For such small products on a CPU, one thread is as fast as several threads.
    # With one thread, the results do not depend on the number of cores.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for step in range(WARM_UP + ROW_LEN):
            _, state = model(inputs_BT[:, step : step + 1], state)
            if step >= WARM_UP:
                cells_TLBH[step - WARM_UP] = state.cell
    finally:
        torch.set_num_threads(num_threads)
    return cells_TLBH.permute(1, 3, 2, 0).flatten(2).flatten(0, 1).numpy()


def find(cells_UN: Cells, labels: list[Label], second_half: str, hidden_size: int) -> list[Tracked]:
    """Choose, for each label, the cell with the largest effect in the first half of the text.

    Each chosen cell is tested on the second half. Confirmed labels come first.
    """
    half = len(second_half)
    weights_KN = np.stack([weights(one.values_N[:half]) for one in labels])
    found_UK = np.stack([weights_KN @ ranks(cell_N[:half]) for cell_N in cells_UN])
    line_starts = [0, *(place + 1 for place, one in enumerate(second_half) if one == "\n")]
    max_p = SIGNIFICANT / len(labels)  # Bonferroni correction
    tested = []
    for label, found_U in zip(labels, found_UK.T, strict=True):
        cell = int(np.abs(found_U).argmax())
        cell_N = cells_UN[cell, half:]
        values_N = label.values_N[half:]
        effect, p_value = effect_and_p(cell_N, values_N)
        is_confirmed = found_U[cell] * effect > 0 and p_value <= max_p
        start = excerpt_start(values_N, line_starts)
        shown = slice(start, start + EXCERPT_LEN if is_confirmed else start)
        tested.append(
            Tracked(
                label=label.name,
                meaning=label.meaning,
                is_yes_or_no=label.is_yes_or_no,
                layer=cell // hidden_size + 1,
                unit=cell % hidden_size,
                effect_found=found_U[cell],
                effect_again=effect,
                p_value=p_value,
                is_confirmed=is_confirmed,
                excerpt=second_half[shown],
                levels=levels(cell_N, shown),
            )
        )
    return sorted(tested, key=lambda one: (not one.is_confirmed, -abs(one.effect_again)))


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
