"""Resets to the zero state where a row of a batch begins a document.

A batch is cut along time wherever one of its rows begins a document, and the pieces are read one
after another. So layers need no knowledge of documents, and no gradient crosses the beginning of a
document.

Shapes: B rows, T time steps, L layers, H hidden units, N times with a reset.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from charlstm.model.gates import LSTMState

Read = Callable[[Tensor, LSTMState], tuple[Tensor, LSTMState]]


class Resets(NamedTuple):
    """Ascending time steps before which some rows are reset, and masks of these rows."""

    times: tuple[int, ...]
    is_reset_NB1: Tensor

    @classmethod
    def of(cls, starts_BT: Tensor | None, device: torch.device) -> "Resets | None":
        """Return the resets at characters that begin a document, or None if there are none.

        Args:
            starts_BT: true where a character begins a document, bool on the CPU; None if unknown.
            device: the device of the mask.
        """
        if starts_BT is None or not starts_BT.any():
            return None
        times = starts_BT.any(dim=0).nonzero()[:, 0]
        is_reset_NB1 = starts_BT[:, times].t()[..., None]
        return cls(tuple(times.tolist()), is_reset_NB1.to(device, non_blocking=True))


def read_with_resets(
    read: Read, x: Tensor, state: LSTMState, resets: Resets | None, *, time_dim: int
) -> tuple[Tensor, LSTMState]:
    """Return the outputs of `read` for all time steps of `x`, and the state after the last step.

    `state` is (B, H) or (L, B, H), as `read` expects. Without resets, `read` is called once.
    """
    if resets is None:
        return read(x, state)

    edges = (0, *resets.times, x.shape[time_dim])
    pieces = torch.split(x, [end - start for start, end in pairwise(edges)], time_dim)
    outputs = []
    for piece, is_reset_B1 in zip(pieces, (None, *resets.is_reset_NB1), strict=True):
        if is_reset_B1 is not None:
            state = LSTMState(*(part.masked_fill(is_reset_B1, 0) for part in state))
        # The first piece is empty if a row begins with a document.
        if piece.shape[time_dim] > 0:
            output, state = read(piece, state)
            outputs.append(output)
    return torch.cat(outputs, time_dim), state
