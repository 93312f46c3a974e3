"""The two halves of a text: what is found on one is confirmed on the other. Shapes: B rows, T time steps."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from charlstm.interpretation.labels import Label
from charlstm.model.char_lstm import CharLSTM
from charlstm.text.vocabulary import Ids

WARM_UP = 200  # characters that a row reads first: its state is then that of a reader in the middle of a text
ROW_LEN = 1_000  # characters; halves are multiples of it
MIN_HALF, MAX_HALF = 2_000, 50_000  # characters
LOOK_AHEAD = 100_000  # characters after the halves that are kept: some labels depend on how the last line goes on
MIN_CHARS = WARM_UP + 2 * MIN_HALF + 1
MAX_CELL_STATES = 2**26  # of both halves, two bytes each
MAX_MULTIPLICATIONS = 2**38  # of a pass over both halves: a large model reads less, so as to be done in time


class Halves(NamedTuple):
    """The halves follow one another in `ids`, after WARM_UP characters."""

    ids: Ids
    num_chars: int
    """Of each half."""

    def labels(self, labels: list[Label], half: int, num_chars: int | None = None) -> list[Label]:
        """The labels of half 0 or 1, or of its first characters, cut out of those of all ids."""
        start = self._start(half)
        end = start + (num_chars or self.num_chars)
        return [one._replace(values_N=one.values_N[start:end]) for one in labels]

    def rows(self, half: int, num_chars: int, row_len: int, *, with_targets: bool = False) -> Tensor:
        """Rows (B, WARM_UP + T), int64, whose last T are the first characters of a half, in their order.

        With targets, each row has the character after them, too.
        """
        first_B = np.arange(0, num_chars, row_len) + self._start(half) - WARM_UP
        size = WARM_UP + row_len + with_targets
        return torch.from_numpy(self.ids[first_B[:, None] + np.arange(size)].astype(np.int64))

    def part(self, half: int) -> Ids:
        """The ids of a half."""
        return self.ids[self._start(half) :][: self.num_chars]

    def _start(self, half: int) -> int:
        return WARM_UP + half * self.num_chars


def halves_of(ids: Ids, model: CharLSTM) -> Halves | None:
    """As much of the text as there is time and memory for; None where the text is too short to find anything."""
    num_cells = model.shape.num_layers * model.shape.hidden_size
    most = min(2 * MAX_HALF, MAX_CELL_STATES // num_cells, MAX_MULTIPLICATIONS // model.num_parameters())
    num_chars = min(len(ids) - WARM_UP - 1, max(most, 2 * MIN_HALF)) // 2 // ROW_LEN * ROW_LEN
    kept = ids[: WARM_UP + 2 * num_chars + 1 + LOOK_AHEAD]  # a label has a number for each of them
    return Halves(kept, num_chars) if num_chars >= MIN_HALF else None
