"""Which passages of a text did a model foresee worst? Where a text is not like the others, it is foretold badly.

Lines are added up: each has an excess, its nats beyond what as many characters of the whole text cost on average plus
`MARGIN`. A passage is a run of neighboring lines that cannot be made longer or shorter without losing excess (the
maximal scoring subsequences of Ruzzo & Tompa 1999). Passages are ranked by how unusual such a mean is for so long a
piece of this text: its distance from the text's mean, in standard deviations of means of such pieces. So a foreign
paragraph comes before a strange name.

Shapes: N characters, U pieces.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Both in nats a character. Tried on paragraphs of French, German, Latin, code and modern prose in Shakespeare.
MARGIN = 0.3  # above the text's mean: what belongs to a passage
BETWEEN = 0.04  # how far means of long passages differ, besides what their length explains
MAX_PIECE = 100  # characters: a longer line is cut into such pieces, at a space where there is one
MIN_CHARS = 8  # what is shorter says too little


class Passage(NamedTuple):
    """Neighboring lines, numbered from 1, `text[start:end]` of the whole, and the mean of their nats."""

    first_line: int
    last_line: int
    start: int
    end: int
    nats_per_char: float
    text: str


def surprising(text: str, char_nats: NDArray[np.float64]) -> list[Passage]:
    """All passages with a positive excess, the most surprising first.

    `char_nats` (N,): the nats of each character; NaN is left out.
    """
    bounds = _pieces(text)
    is_scored = np.isfinite(char_nats)
    nats_N = np.where(is_scored, char_nats, 0.0)
    sums_U = np.array([nats_N[start:end].sum() for start, end in bounds])
    counts_U = np.array([is_scored[start:end].sum() for start, end in bounds])
    mean, spread = float(char_nats[is_scored].mean()), float(char_nats[is_scored].std()) or 1.0
    found = []
    for first, end in maximal_runs((sums_U - (mean + MARGIN) * counts_U).tolist()):
        num_chars, nats = int(counts_U[first:end].sum()), float(sums_U[first:end].sum())
        if num_chars >= MIN_CHARS:
            distance = (nats / num_chars - mean) / math.hypot(spread / math.sqrt(num_chars), BETWEEN)
            found.append((distance, _passage(text, bounds[first][0], bounds[end - 1][1], nats / num_chars)))
    return [passage for _, passage in sorted(found, key=lambda one: -one[0])]


def maximal_runs(scores: list[float]) -> list[tuple[int, int]]:
    """All maximal scoring runs of `scores`, as (first, end) indices, in order (Ruzzo & Tompa 1999); linear time."""
    runs: list[tuple[int, int, float, float]] = []  # first, end, total before, total after
    total = 0.0
    for index, score in enumerate(scores):
        before, total = total, total + score
        if score <= 0:
            continue
        first = index
        while True:
            left = next((at for at in reversed(range(len(runs))) if runs[at][2] < before), None)
            if left is None or runs[left][3] >= total:
                runs.append((first, index + 1, before, total))
                break
            first, before = runs[left][0], runs[left][2]
            del runs[left:]
    return [(first, end) for first, end, _, _ in runs]


def _pieces(text: str) -> list[tuple[int, int]]:
    """Lines with their newlines, long ones cut: (start, end) of each."""
    bounds, start = [], 0
    while start < len(text):
        newline = text.find("\n", start, start + MAX_PIECE)
        end = newline + 1 if newline >= 0 else min(start + MAX_PIECE, len(text))
        if newline < 0 and end < len(text):
            end = text.rfind(" ", start, end) + 1 or end
        bounds.append((start, end))
        start = end
    return bounds


def _passage(text: str, start: int, end: int, nats_per_char: float) -> Passage:
    """Without empty lines around it."""
    inner = text[start:end]
    start += len(inner) - len(inner.lstrip("\n"))
    end -= len(inner) - len(inner.rstrip("\n"))
    first = text.count("\n", 0, start) + 1
    return Passage(first, first + text.count("\n", start, end), start, end, nats_per_char, text[start:end])
