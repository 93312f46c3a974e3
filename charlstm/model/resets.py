"""Where rows of a batch begin a document: there the state is zero, whatever was read before.

A batch is cut along time wherever one of its rows begins a document, and the pieces are read one after the other. So
layers know nothing of documents, and gradients stop at a document's beginning by themselves.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from charlstm.model.gates import LSTMState

Read = Callable[[Tensor, LSTMState], tuple[Tensor, LSTMState]]


class Resets(NamedTuple):
    """The times, ascending, before which rows are reset, and which rows those are (N, B, 1), bool."""

    times: tuple[int, ...]
    is_reset_NB1: Tensor

    @classmethod
    def of(cls, starts_BT: Tensor | None, device: torch.device) -> "Resets | None":
        """The resets at characters that begin a document (B, T), bool on the CPU; None if there are none."""
        if starts_BT is None or not starts_BT.any():
            return None
        times = starts_BT.any(dim=0).nonzero()[:, 0]
        return cls(
            tuple(times.tolist()), starts_BT[:, times].t()[..., None].to(device, non_blocking=True)
        )


def read_with_resets(
    read: Read, x: Tensor, state: LSTMState, resets: Resets | None, *, time_dim: int
) -> tuple[Tensor, LSTMState]:
    """The outputs of `read` for `x`, all time steps together along `time_dim`, and the state after the last one.

    `state` is (B, H) or (L, B, H), as `read` takes it. Without resets, `read` is called once, as if this were not here.
    """
    if resets is None:
        return read(x, state)
    ends = (*resets.times, x.shape[time_dim])
    sizes = [end - start for start, end in zip((0, *resets.times), ends, strict=True)]
    outputs = []
    for piece, is_reset_B1 in zip(
        torch.split(x, sizes, time_dim), (None, *resets.is_reset_NB1), strict=True
    ):
        if is_reset_B1 is not None:
            state = LSTMState(
                state.hidden.masked_fill(is_reset_B1, 0), state.cell.masked_fill(is_reset_B1, 0)
            )
        if piece.shape[time_dim] > 0:  # the first piece is empty where a row begins with a document
            output, state = read(piece, state)
            outputs.append(output)
    return torch.cat(outputs, time_dim), state
