"""What single cells of a model track: for each label of a text, the cell that goes with it most.

It is chosen on one half of the text and confirmed on the other, since among hundreds of cells some go with any label by
chance. After Karpathy, Johnson & Li (2015), "Visualizing and Understanding Recurrent Networks". `cells.json` and
`cells.csv` have the findings: numbers of four significant digits. Other fields are a new `schema_version`.

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
from charlstm.interpretation.correlation import Cells, effect_and_p, ranks, weights
from charlstm.interpretation.excerpt import EXCERPT_LEN, excerpt_start, levels
from charlstm.interpretation.labels import Label, labels_of
from charlstm.model.char_lstm import CharLSTM
from charlstm.text.vocabulary import Ids, Vocab

WARM_UP = 200  # characters that a row reads first: its state is then that of a reader in the middle of a text
ROW_LEN = 1_000  # characters; halves are multiples of it
MIN_HALF, MAX_HALF = 2_000, 50_000  # characters
MIN_CHARS = WARM_UP + 2 * MIN_HALF
MAX_CELL_STATES = 2**26  # of both halves, two bytes each: bounds memory
MIN_FALLS = 5  # from yes to no, or to a smaller number
SIGNIFICANT = 0.05  # for all labels together
CELLS, CELLS_TABLE = "cells.json", "cells.csv"
Rounded = Annotated[
    float, AfterValidator(lambda value: float(f"{value:.4g}"))
]  # more would depend on the machine


class Tracked(Document):
    """A label, and the cell that goes with it most."""

    label: str
    meaning: str
    is_yes_or_no: bool
    layer: Count
    """From 1, at the bottom."""
    unit: Count
    """From 0."""
    effect_found: Rounded
    """On the first half, where the cell was chosen, from -1 to 1."""
    effect_again: Rounded
    """On the second half."""
    p_value: Rounded
    """How often the label, moved along the second half, goes with the cell as much."""
    is_confirmed: bool
    excerpt: str
    """Of the second half; empty if the label is not confirmed."""
    levels: list[int]
    """The cell state at each of its characters: 0 is the median, 100 the farther of the 1st and the 99th percentile."""


class CellsDocument(Document):
    """The findings on one model's cells."""

    schema_version: Literal[2]
    reason: str | None
    """Why there is nothing; None if there is something."""
    num_cells: Count
    num_chars: Count = 0
    """Of each half."""
    tested: list[Tracked] = []


read_cells = partial(read_document, kind=CellsDocument, what="what cells track", stage="evaluate")


def cells_table(document: CellsDocument) -> pd.DataFrame:
    """A row for each label."""
    columns = [
        name for name in Tracked.model_fields if name not in ("meaning", "excerpt", "levels")
    ]
    return pd.DataFrame(
        [one.model_dump(include=set(columns)) for one in document.tested], columns=columns
    )


def analyse_cells(model: CharLSTM, vocab: Vocab, ids: Ids) -> CellsDocument:
    """What single cells of `model` track in a text that it was not trained on.

    A text that is too short, or in which no label varies, gives a document with the reason and without labels.
    """
    num_cells = model.shape.num_layers * model.shape.hidden_size

    def nothing(reason: str) -> CellsDocument:
        return CellsDocument(schema_version=2, reason=reason, num_cells=num_cells)

    if vocab.unit == "byte":
        return nothing("labels are of characters, and this is a model of bytes")
    if len(ids) < MIN_CHARS:
        return nothing(f"the text has {len(ids):,} characters, and {MIN_CHARS:,} are the least")
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
    """Whether a label falls often enough for anything to be said of it."""
    return int((np.diff(values_N.astype(np.int64)) < 0).sum()) >= MIN_FALLS


@torch.no_grad()
def cell_states(model: CharLSTM, ids: Ids) -> Cells:
    """The states (U, N) of all cells, layer by layer, after each character but the first WARM_UP.

    The text is read as rows of ROW_LEN, side by side, each after the WARM_UP characters before it.
    """
    starts_B = np.arange(0, len(ids) - WARM_UP, ROW_LEN)
    rows_BT = torch.from_numpy(
        ids[starts_B[:, None] + np.arange(WARM_UP + ROW_LEN)].astype(np.int64)
    )
    rows_BT = rows_BT.to(model.head.weight.device)
    state = model.zero_state(len(rows_BT))
    cells_TLBH = torch.empty((ROW_LEN, *state.cell.shape), dtype=torch.float16)
    # On a CPU, one thread is as fast for such small products, and gives the same numbers whatever the number of cores.
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for step in range(WARM_UP + ROW_LEN):
            _, state = model(rows_BT[:, step : step + 1], state)
            if step >= WARM_UP:
                cells_TLBH[step - WARM_UP] = state.cell
    finally:
        torch.set_num_threads(num_threads)
    return cells_TLBH.permute(1, 3, 2, 0).flatten(2).flatten(0, 1).numpy()


def find(cells_UN: Cells, labels: list[Label], second_half: str, hidden_size: int) -> list[Tracked]:
    """For each label, the cell with the largest effect on the first half, tested on the second; confirmed first."""
    half = len(second_half)
    weights_KN = np.stack([weights(one.values_N[:half]) for one in labels])
    found_UK = np.stack([weights_KN @ ranks(cell_N[:half]) for cell_N in cells_UN])
    line_starts = [0, *(place + 1 for place, one in enumerate(second_half) if one == "\n")]
    tested = []
    for label, found_U in zip(labels, found_UK.T, strict=True):
        cell = int(np.abs(found_U).argmax())
        cell_N, values_N = cells_UN[cell, half:], label.values_N[half:]
        effect, p_value = effect_and_p(cell_N, values_N)
        is_confirmed = found_U[cell] * effect > 0 and p_value <= SIGNIFICANT / len(
            labels
        )  # after Bonferroni
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
