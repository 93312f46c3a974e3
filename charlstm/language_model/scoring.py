"""How well a model predicted a text, character by character.

Shapes: N characters, U pieces of lines.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.model.loss import LossSum

# Which passages of a text did a model predict worst? Where a text is not like the rest, it is predicted badly.
#
# Each line has an excess: its nats beyond what as many characters cost at the text's mean plus a margin. A passage is a
# run of neighboring lines that cannot be made longer or shorter without losing excess (the maximal scoring subsequences
# of Ruzzo & Tompa 1999). A small margin finds what is mildly strange as a whole. A large one keeps what is very strange
# apart from its mildly strange neighbors. So both are tried, and of passages that overlap the more unusual one stays.
# Passages are ranked by how unusual such a mean is for so long a piece of this text: its distance from the text's mean,
# in standard deviations of means of such pieces. So a foreign paragraph comes before a strange name.

MARGINS = (0.3, 1.0)  # nats a character
BETWEEN = 0.04  # nats a character: how far means of long passages differ, besides what their length explains
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
    """All passages with a positive excess, the most surprising first; none overlaps another.

    `char_nats` (N,): the nats of each character; NaN is left out.
    """
    bounds, is_scored = _pieces(text), np.isfinite(char_nats)
    starts_U = np.array([start for start, _ in bounds])
    sums_U = np.add.reduceat(np.where(is_scored, char_nats, 0.0), starts_U)
    counts_U = np.add.reduceat(is_scored.astype(np.int64), starts_U)
    mean, spread = float(char_nats[is_scored].mean()), float(char_nats[is_scored].std())
    found = []
    for margin in MARGINS:
        for first, end in maximal_runs((sums_U - (mean + margin) * counts_U).tolist()):
            num_chars = int(counts_U[first:end].sum())
            if num_chars >= MIN_CHARS:
                passage_mean = float(sums_U[first:end].sum()) / num_chars
                distance = (passage_mean - mean) / math.hypot(spread / math.sqrt(num_chars), BETWEEN)
                found.append((distance, first, end, passage_mean))
    num_lines_U = np.cumsum([0, *(text[end - 1] == "\n" for _, end in bounds)])  # before each piece
    is_taken_U, passages = np.zeros(len(bounds), bool), []
    for _, first, end, passage_mean in sorted(found, key=lambda one: one[0], reverse=True):
        if not is_taken_U[first:end].any():
            is_taken_U[first:end] = True
            piece = text[bounds[first][0] : bounds[end - 1][1]]
            num_empty = len(piece) - len(piece.lstrip("\n"))  # lines before it
            start, inner = bounds[first][0] + num_empty, piece.strip("\n")
            line = int(num_lines_U[first]) + num_empty + 1
            passages.append(Passage(line, line + inner.count("\n"), start, start + len(inner), passage_mean, inner))
    return passages


def maximal_runs(scores: list[float]) -> list[tuple[int, int]]:
    """All maximal scoring runs of `scores`, as (first, end) indices, in order (Ruzzo & Tompa 1999); linear time."""
    # First, end, total before, total after; and the nearest run before it that begins with a smaller total, or -1.
    # Those in between begin with a total that is no smaller, so a search jumps over them.
    runs: list[tuple[int, int, float, float, int]] = []
    total = 0.0
    for index, score in enumerate(scores):
        before, total = total, total + score
        if score <= 0:
            continue
        first = index
        while True:
            left = len(runs) - 1
            while left >= 0 and runs[left][2] >= before:
                left = runs[left][4]
            if left < 0 or runs[left][3] >= total:
                runs.append((first, index + 1, before, total, left))
                break
            first, before = runs[left][0], runs[left][2]
            del runs[left:]
    return [(first, end) for first, end, *_ in runs]


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


# The score.


class Score:
    """What a text cost, in nats (natural logarithm): -ln p(character | all before it).

    `text` is the text as it was read, after unknown characters were exchanged. `char_nats` (N,) belongs to its
    characters. The first one is NaN where nothing was read before it: it was not predicted, and counts nowhere.
    """

    def __init__(self, text: str, char_nats: NDArray[np.float64], total: LossSum) -> None:
        self.text, self.char_nats, self._total = text, char_nats, total

    def __repr__(self) -> str:
        return f"<charlstm.Score of {self.num_chars:,} characters: {self.nats_per_char:.4f} nats/char>"

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """Each character with its nats."""
        return zip(self.text, self.char_nats.tolist(), strict=True)

    @property
    def nats(self) -> float:
        """The sum over all characters that count."""
        return self._total.nats

    @property
    def num_chars(self) -> int:
        """The number of characters that count."""
        return self._total.num_chars

    @property
    def nats_per_char(self) -> float:
        """The mean per character. Of a validation text it is the protocol `stateful`."""
        return self._total.nats_per_char

    @property
    def bits_per_char(self) -> float:
        """Bits per character: `nats_per_char` in base 2."""
        return self._total.bits_per_char

    @property
    def perplexity(self) -> float:
        """exp(nats/char): the size of a uniform alphabet that would be as hard to guess."""
        return self._total.perplexity

    def most_surprising(self, num_passages: int = 5) -> list[Passage]:
        """The passages that the model predicted worst, the most surprising first: lines, or neighboring ones as one."""
        return surprising(self.text, self.char_nats)[:num_passages]
