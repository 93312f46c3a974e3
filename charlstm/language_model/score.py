"""How well a model foresaw a text, character by character.

Shapes: N characters.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from charlstm.language_model.novelty import Passage, surprising
from charlstm.model.loss import LossSum

if TYPE_CHECKING:
    from collections.abc import Iterator


class Score:
    """What a text cost, in nats (natural logarithm): -ln p(character | all before it).

    `text` is the text as it was read, after unknown characters were exchanged. `char_nats` (N,) belongs to its
    characters. The first one is NaN where nothing was read before it: it was not foretold, and counts nowhere.
    """

    def __init__(self, text: str, char_nats: NDArray[np.float64], total: LossSum) -> None:
        self.text, self.char_nats, self._total = text, char_nats, total

    def __repr__(self) -> str:
        return f"<charlstm.Score of {self.num_chars:,} characters: {self.nats_per_char:.4f} nats/char>"

    def __iter__(self) -> "Iterator[tuple[str, float]]":
        """Each character with its nats."""
        return zip(self.text, self.char_nats.tolist(), strict=True)

    @property
    def nats(self) -> float:
        """The sum."""
        return self._total.nats

    @property
    def num_chars(self) -> int:
        """Characters that count."""
        return self._total.num_chars

    @property
    def nats_per_char(self) -> float:
        """The mean. Of a validation text it is the protocol `stateful`."""
        return self._total.nats_per_char

    @property
    def bits_per_char(self) -> float:
        """The same in base 2."""
        return self._total.bits_per_char

    @property
    def perplexity(self) -> float:
        """exp(nats/char): the size of a uniform alphabet that would be as hard to guess."""
        return self._total.perplexity

    def most_surprising(self, num_passages: int = 5) -> list[Passage]:
        """The passages that the model foresaw worst, the most surprising first: lines, or neighboring ones as one."""
        return surprising(self.text, self.char_nats)[:num_passages]
