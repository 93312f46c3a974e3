"""Score of a text: the model's loss on each character.

Shapes: N characters, U pieces of lines.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.model.protocols import LossSum

# A line of at most 100 characters, including its newline, is one piece.
# A longer line is cut into pieces of at most 100 characters, after a space if possible.
PIECE = re.compile(r"[^\n]{0,99}\n|[^\n]{1,100}\Z|[^\n]{0,99} |[^\n]{100}")
MIN_CHARS = 8  # the mean loss of shorter pieces is mostly noise


class Passage(NamedTuple):
    """A line of the scored text, or a piece of a long line: `text[start:end]` without a newline."""

    line: int
    """Number of the line, starting at 1."""
    start: int
    end: int
    nats_per_char: float
    text: str


class Score:
    """Loss of a text in nats. A character's loss is -ln p(character | all characters before it).

    `text` is the text that was read, after the replacement of unknown characters. `char_nats` (N,)
    has the loss of each character. If nothing was read before the first character, the model did
    not predict it: its loss is NaN, and the sums and means exclude it.
    """

    def __init__(self, text: str, char_nats: NDArray[np.float64], total: LossSum) -> None:
        self.text = text
        self.char_nats = char_nats
        self._total = total

    def __repr__(self) -> str:
        loss = f"{self.nats_per_char:.4f} nats/char"
        return f"<charlstm.Score of {self.num_chars:,} characters: {loss}>"

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """Yield each character with its loss in nats."""
        return zip(self.text, self.char_nats.tolist(), strict=True)

    @property
    def nats(self) -> float:
        """Sum of the losses of all scored characters."""
        return self._total.nats

    @property
    def num_chars(self) -> int:
        """Number of scored characters."""
        return self._total.num_chars

    @property
    def nats_per_char(self) -> float:
        """Mean loss in nats per character. On a validation text, this is the `stateful` loss."""
        return self._total.nats_per_char

    @property
    def bits_per_char(self) -> float:
        """Mean loss in bits per character."""
        return self._total.bits_per_char

    @property
    def perplexity(self) -> float:
        """Number of equally likely characters that give the same loss: exp(nats per character)."""
        return self._total.perplexity

    def most_surprising(self, num_passages: int = 5) -> list[Passage]:
        """Return the lines with the highest mean loss, in descending order.

        Lines of over 100 characters are cut into pieces.
        """
        bounds = [piece.span() for piece in PIECE.finditer(self.text)]
        starts_U = np.array([start for start, _ in bounds])
        is_scored_N = np.isfinite(self.char_nats)
        counts_U = np.add.reduceat(is_scored_N.astype(np.int64), starts_U)
        sums_U = np.add.reduceat(np.where(is_scored_N, self.char_nats, 0.0), starts_U)
        means_U = sums_U / np.maximum(counts_U, 1)
        order = np.argsort(-means_U, kind="stable")
        passages = []
        for index in order[counts_U[order] >= MIN_CHARS][:num_passages]:
            start, end = bounds[index]
            piece = self.text[start:end].rstrip("\n")
            line = self.text.count("\n", 0, start) + 1
            passages.append(Passage(line, start, start + len(piece), float(means_U[index]), piece))
        return passages
