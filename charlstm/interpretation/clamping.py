"""What a cell does for the model: the nats that are lost when it is clamped to its mean.

Shapes: B rows, T scored time steps, C cells, N = B T characters.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from charlstm.interpretation.effects import Floats
from charlstm.interpretation.watching import Held, holding
from charlstm.model.char_lstm import CharLSTM

MAX_ROWS = 512  # read side by side
MAX_LOGITS = 2**23  # at a time; bounds memory, and has no influence on what is computed


class Clamp(NamedTuple):
    """A cell, and the value that it is to have all the time."""

    layer: int
    unit: int
    value: float


@torch.no_grad()
def nats_lost(model: CharLSTM, ids_BT: Tensor, clamps: Sequence[Clamp], num_unscored: int) -> Floats:
    """How much worse (C, N) each next character is predicted when a cell is clamped, one cell at a time.

    Args:
        model: a `readable` one.
        ids_BT: rows (B, num_unscored + T + 1), int64. A cell is clamped from the first character on.
    """
    plain_N = _nats(model, ids_BT, [], num_unscored)
    per_pass = max(1, MAX_ROWS // len(ids_BT))
    found = []
    for start in range(0, len(clamps), per_pass):
        some = clamps[start : start + per_pass]
        held = [
            Held(row + index * len(ids_BT), *clamp) for index, clamp in enumerate(some) for row in range(len(ids_BT))
        ]
        found.append(_nats(model, ids_BT.repeat(len(some), 1), held, num_unscored).reshape(len(some), -1))
    return (torch.cat(found) - plain_N).numpy()


def _nats(model: CharLSTM, ids_BT: Tensor, held: list[Held], num_unscored: int) -> Tensor:
    """Nats (N,) of each scored character, row after row, float64 on the CPU."""
    ids_BT = ids_BT.to(model.head.weight.device)
    size = max(1, MAX_LOGITS // (len(ids_BT) * model.shape.vocab_size))
    pieces_of_both = (torch.split(part_BT, size, dim=1) for part_BT in (ids_BT[:, :-1], ids_BT[:, 1:]))
    pieces, state = [], model.zero_state(len(ids_BT))
    with holding(model, held):
        for inputs_BT, targets_BT in zip(*pieces_of_both, strict=True):
            logits_BTV, state = model(inputs_BT, state)
            pieces.append(functional.cross_entropy(logits_BTV.transpose(1, 2), targets_BT, reduction="none"))
    return torch.cat(pieces, 1)[:, num_unscored:].flatten().cpu().double()
