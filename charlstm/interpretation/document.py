"""`cells.json` and `cells.csv`: what single cells of a model track, for the review page and for programs.

It has no times, hosts or paths. Numbers have four significant digits. Other fields are a new `schema_version`.
"""

import itertools
from functools import partial
from typing import Annotated, Literal

import pandas as pd
from pydantic import AfterValidator, Field

from charlstm.evaluation.documents import Count, Document, read_document

CELLS, CELLS_TABLE = "cells.json", "cells.csv"
ROUNDED = AfterValidator(lambda value: float(f"{value:.4g}"))  # more digits would depend on the machine
Number = Annotated[float, Field(allow_inf_nan=False), ROUNDED]
Share = Annotated[float, Field(ge=0, le=1), ROUNDED]
Effect = Annotated[float, Field(ge=-1.01, le=1.01), ROUNDED]
Level = Annotated[int, Field(ge=-100, le=100)]


class Tracked(Document):
    """A cell and the label that it goes with, tested."""

    label: str
    meaning: str
    is_yes_or_no: bool
    layer: Count
    """From 1, at the bottom."""
    unit: Count
    """From 0."""
    effect_found: Effect
    """On the first half, from -1 to 1."""
    effect_again: Effect
    """On the second half."""
    effect_untrained: Effect
    """The mean of the best cells of untrained models."""
    p_shifted: Share
    p_untrained: Share
    is_confirmed: bool


class Gate(Document):
    """How often a gate is nearly closed and nearly open, as shares of the time."""

    below_low: Share
    above_high: Share


class Context(Document):
    """A character at which the cell was very high or low, and what stands around it."""

    before: str
    character: str
    after: str
    state: Number


class Cell(Document):
    """All that is reported of one cell."""

    layer: Count
    """From 1, at the bottom."""
    unit: Count
    """From 0."""
    tracked: list[Tracked]
    """What it is the best cell for, confirmed; otherwise the label that it goes with most. The clearest is first."""
    reported_for: Literal["label", "loss"]
    half_life: Number | None
    """Characters until half of the cell state has faded, by the mean of ln f, f being the forget gate where it is not
    below 0.1, which is a reset; None: it does not fade measurably, or there is nothing but resets."""
    input_gate: Gate
    forget_gate: Gate
    output_gate: Gate
    nats_lost: Number
    """Per character, when the cell is clamped to its mean."""
    nats_lost_error: Number
    """Standard error of that, from blocks of neighboring characters."""
    nats_lost_where: Number | None
    """Where the first label holds, or is above its median ..."""
    nats_lost_elsewhere: Number | None
    """... and where not."""
    excerpt: str
    levels: list[Level]
    """The cell state at each of its characters: 0 is the median, 100 the farther of the 1st and the 99th percentile."""
    highest: list[Context]
    lowest: list[Context]
    held_high: str
    high: Number
    """The cell state that it was held at."""
    held_low: str
    low: Number


class CellsDocument(Document):
    """The findings on one model's cells."""

    schema_version: Literal[1]
    reason: str | None
    """Why there is nothing; None if there is something."""
    num_cells: Count
    # Of what follows, a document with a reason has nothing.
    num_chars: Count = 0
    """Of each half."""
    num_untrained: Count = 0
    num_clamped_chars: Count = 0
    tested: list[Tracked] = []
    """The best cell for each label, confirmed or not."""
    cells: list[Cell] = []
    prompt: str = ""
    """What the held texts follow ..."""
    plain: str = ""
    """... and the text with nothing held."""


read_cells = partial(read_document, kind=CellsDocument, what="what cells track", stage="evaluate")


def cells_table(document: CellsDocument) -> pd.DataFrame:
    """A row for each tested pair of label and cell, then for each other reported cell; what is not known is empty."""
    cells = {(one.layer, one.unit): one.model_dump() for one in document.cells}
    pairs = [*document.tested, *(one.tracked[0] for one in document.cells if one.reported_for == "loss")]
    gates = list(itertools.product(("input_gate", "forget_gate", "output_gate"), Gate.model_fields))
    losses = [name for name in Cell.model_fields if name.startswith("nats_lost")]
    rows = []
    for pair in pairs:
        row = pair.model_dump(exclude={"meaning"})
        if cell := cells.get((pair.layer, pair.unit)):
            row |= {name: cell[name] for name in ("half_life", *losses)}
            row |= {f"{gate}_{end}": cell[gate][end] for gate, end in gates}
        rows.append(row)
    tracked = (name for name in Tracked.model_fields if name != "meaning")
    return pd.DataFrame(rows, columns=[*tracked, "half_life", *(f"{gate}_{end}" for gate, end in gates), *losses])
