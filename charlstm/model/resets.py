"""Resets of the LSTM state to zero wherever a document begins in a row of the batch.

A batch is cut along time wherever a document begins in any of its rows, and the pieces are read one
after another. So layers need no knowledge of documents, and no gradient crosses the beginning of a
document.

Shapes: B rows, T time steps, L layers, H hidden units, N time steps with a reset.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from charlstm.model.gates import LSTMState

Read = Callable[[Tensor, LSTMState], tuple[Tensor, LSTMState]]


class Resets(NamedTuple):
    """The time steps before which rows are reset, in ascending order, and masks of these rows."""

    times: tuple[int, ...]
    is_reset_NB1: Tensor

    @classmethod
    def of(cls, starts_BT: Tensor | None, device: torch.device) -> "Resets | None":
        """Return the resets for a batch, or None if no document begins in the batch.

        Args:
            starts_BT: True where a character begins a document, on the CPU. None if the text has no
                separator.
            device: device on which to place the masks.
        """
        if starts_BT is None or not starts_BT.any():
            return None
        times = starts_BT.any(dim=0).nonzero()[:, 0]
        is_reset_NB1 = starts_BT[:, times].t()[..., None]
        return cls(tuple(times.tolist()), is_reset_NB1.to(device, non_blocking=True))


def read_with_resets(
    read: Read, x: Tensor, state: LSTMState, resets: Resets | None, *, time_dim: int
) -> tuple[Tensor, LSTMState]:
    """Run `read` over all time steps of `x`, with resets. Return its outputs and the final state.

    `state` has the shape (B, H) or (L, B, H), as `read` expects.
    Without resets, `read` is called once.
    """
    if resets is None:
        return read(x, state)

    edges = (0, *resets.times, x.shape[time_dim])
    pieces = torch.split(x, [end - start for start, end in pairwise(edges)], time_dim)
    outputs = []
    for piece, is_reset_B1 in zip(pieces, (None, *resets.is_reset_NB1), strict=True):
        if is_reset_B1 is not None:
            state = LSTMState(*(part.masked_fill(is_reset_B1, 0) for part in state))
        # The first piece is empty if a document begins at the first time step of a row.
        if piece.shape[time_dim] > 0:
            output, state = read(piece, state)
            outputs.append(output)
    return torch.cat(outputs, time_dim), state
