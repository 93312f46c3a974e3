"""`cells.json` and `cells.csv`: what single cells of a model track, for the review page and for programs.

Numbers have four significant digits. Other fields are a new `schema_version`.
"""

from functools import partial
from typing import Annotated, Literal

import pandas as pd
from pydantic import AfterValidator, Field

from charlstm.evaluation.documents import Count, Document, read_document

CELLS, CELLS_TABLE = "cells.json", "cells.csv"
ROUNDED = AfterValidator(lambda value: float(f"{value:.4g}"))  # more digits would depend on the machine
Effect = Annotated[float, Field(ge=-1.01, le=1.01), ROUNDED]
Share = Annotated[float, Field(ge=0, le=1), ROUNDED]
Level = Annotated[int, Field(ge=-100, le=100)]


class Tracked(Document):
    """A label, and the cell that goes with it most."""

    label: str
    meaning: str
    is_yes_or_no: bool
    layer: Count
    """From 1, at the bottom."""
    unit: Count
    """From 0."""
    effect_found: Effect
    """On the first half, where the cell was chosen, from -1 to 1."""
    effect_again: Effect
    """On the second half."""
    p_value: Share
    """How often the label, moved along the second half, goes with the cell as much."""
    is_confirmed: bool
    excerpt: str
    """Of the second half; empty if the label is not confirmed."""
    levels: list[Level]
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
    columns = [name for name in Tracked.model_fields if name not in ("meaning", "excerpt", "levels")]
    return pd.DataFrame([one.model_dump(include=set(columns)) for one in document.tested], columns=columns)
