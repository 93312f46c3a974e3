"""How well a model predicted a text, character by character.

Shapes: N characters, U pieces of lines.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.model.protocols import LossSum

MAX_PIECE = 100  # characters; longer lines are cut, at a space if there is one
MIN_CHARS = 8  # shorter pieces say too little


class Passage(NamedTuple):
    """A line, or a piece of a long line: `text[start:end]` of the scored text, without its newline."""

    line: int
    """The number of the line, from 1."""
    start: int
    end: int
    nats_per_char: float
    text: str


class Score:
    """What a text cost, in nats (natural logarithm): -ln p(character | all before it).

    `text` is the text as it was read, after unknown characters were exchanged. `char_nats` (N,) belongs to its
    characters. The first one is NaN where nothing was read before it: it was not predicted, and counts nowhere.
    """

    def __init__(self, text: str, char_nats: NDArray[np.float64], total: LossSum) -> None:
        self.text, self.char_nats, self._total = text, char_nats, total

    def __repr__(self) -> str:
        return (
            f"<charlstm.Score of {self.num_chars:,} characters: {self.nats_per_char:.4f} nats/char>"
        )

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
        """Return the lines with the highest mean loss, highest first. Lines of over 100 characters count in pieces."""
        bounds = _pieces(self.text)
        starts_U = np.array([start for start, _ in bounds])
        is_scored_N = np.isfinite(self.char_nats)
        counts_U = np.add.reduceat(is_scored_N.astype(np.int64), starts_U)
        means_U = np.add.reduceat(
            np.where(is_scored_N, self.char_nats, 0.0), starts_U
        ) / np.maximum(counts_U, 1)
        order = [
            index for index in np.argsort(-means_U, kind="stable") if counts_U[index] >= MIN_CHARS
        ]
        passages = []
        for index in order[:num_passages]:
            start, end = bounds[index]
            piece = self.text[start:end].rstrip("\n")
            line = self.text.count("\n", 0, start) + 1
            passages.append(Passage(line, start, start + len(piece), float(means_U[index]), piece))
        return passages


def _pieces(text: str) -> list[tuple[int, int]]:
    """Split the text into lines, keeping newlines and cutting long lines. Return each piece's (start, end) offsets."""
    bounds, start = [], 0
    while start < len(text):
        newline = text.find("\n", start, start + MAX_PIECE)
        end = newline + 1 if newline >= 0 else min(start + MAX_PIECE, len(text))
        if newline < 0 and end < len(text):
            end = text.rfind(" ", start, end) + 1 or end
        bounds.append((start, end))
        start = end
    return bounds
