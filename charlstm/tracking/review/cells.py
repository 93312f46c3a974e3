"""The text of an excerpt in runs of one color, by what a cell did at each character."""

import itertools
from typing import NamedTuple

from charlstm.interpretation.document import Cell

DARKEST = 4  # steps of color on either side of none
STEP = 25  # levels to a step


class Run(NamedTuple):
    """Neighboring characters of one color: `step` is from -DARKEST, lowest, to DARKEST, highest."""

    text: str
    step: int


def runs_of(cell: Cell) -> list[Run]:
    """The excerpt of a cell, from beginning to end."""
    steps = [round(level / STEP) for level in cell.levels]
    pairs = zip(cell.excerpt, steps, strict=True)
    groups = itertools.groupby(pairs, key=lambda pair: pair[1])
    return [Run("".join(character for character, _ in group), step) for step, group in groups]
