"""Work divided among processes: each computes some pieces, and all receive every result.

A result depends neither on the number of processes nor on the process that computes it.

Shapes: P numbers in a message.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Peers(Protocol):
    """The interface through which an optimizer communicates with the other processes."""

    @property
    def rank(self) -> int:
        """Rank of this process, counted from 0."""

    @property
    def world_size(self) -> int:
        """Number of processes that train together."""

    def all_gather(self, own: Tensor, /) -> Tensor:
        """Return the tensors of all processes, stacked by rank.

        Collective: every process must call this, with a tensor of the same shape and dtype.
        """


def compute_sharded(
    compute: Callable[[int], Tensor], like: Sequence[Tensor], dtype: torch.dtype, peers: Peers
) -> list[Tensor]:
    """Call `compute` for all pieces, divided among the processes. Return all results in order.

    The results are matrices in `dtype` with the shapes and the device of `like`. Every process
    sends one message, and all messages have the same length. All processes receive identical bits.
    A single process sends nothing.
    """
    if peers.world_size == 1:
        return [compute(piece) for piece in range(len(like))]

    costs = [orthogonalization_cost(*matrix.shape) for matrix in like]
    by_rank = shares(costs, peers.world_size)
    length = max(sum(like[piece].numel() for piece in share) for share in by_rank)
    own = [compute(piece).flatten() for piece in by_rank[peers.rank]]
    padding = torch.zeros(length - sum(map(len, own)), dtype=dtype, device=like[0].device)

    results: dict[int, Tensor] = {}
    messages = peers.all_gather(torch.cat([*own, padding]))
    for share, message_P in zip(by_rank, messages, strict=True):
        for piece in share:
            size = like[piece].numel()
            results[piece] = message_P[:size].view_as(like[piece])
            message_P = message_P[size:]
    return [results[piece] for piece in range(len(like))]


def shares(costs: Sequence[float], num_processes: int) -> list[list[int]]:
    """Assign each piece to the least loaded process, beginning with the costliest piece.

    The busiest process has at most a third more work than in the best assignment (Graham 1969).
    """
    pieces: list[list[int]] = [[] for _ in range(num_processes)]
    loads = [0.0] * num_processes
    for piece in sorted(range(len(costs)), key=lambda piece: -costs[piece]):
        least = loads.index(min(loads))
        pieces[least].append(piece)
        loads[least] += costs[piece]
    return pieces


def orthogonalization_cost(num_rows: int, num_columns: int) -> int:
    """Return the relative cost of making one matrix orthogonal, counted in multiplications."""
    small, large = sorted((num_rows, num_columns))
    return small * small * (2 * large + small)
