"""Work that is sharded over processes: each piece is computed by one process, and received by all.

What a piece is does not depend on how many processes there are, nor on which computes it.
Shapes: N processes, P numbers in a message.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Peers(Protocol):
    """The processes that train together, as far as an optimizer must know them."""

    @property
    def rank(self) -> int:
        """This process's number, from 0."""

    @property
    def world_size(self) -> int:
        """How many processes there are."""

    def all_gather(self, own: Tensor, /) -> Tensor:
        """The tensors of all processes, stacked by rank; all give the same shape and dtype. Collective."""


def shares(costs: Sequence[float], num_processes: int) -> list[list[int]]:
    """The pieces of each process: the costliest first, each to the process with the least so far (Graham 1969).

    The busiest process has at most a third more to do than under the best sharing.
    """
    pieces: list[list[int]] = [[] for _ in range(num_processes)]
    loads = [0.0] * num_processes
    for piece in sorted(range(len(costs)), key=lambda piece: -costs[piece]):
        least = loads.index(min(loads))
        pieces[least].append(piece)
        loads[least] += costs[piece]
    return pieces


def compute_sharded(
    compute: Callable[[int], Tensor], like: Sequence[Tensor], dtype: torch.dtype, peers: Peers
) -> list[Tensor]:
    """`compute(piece)` of every piece, in order: matrices of the shapes and devices of `like`, in `dtype`.

    One message of equal length from each process, so that every process has the same bits. One process sends nothing.
    """
    if peers.world_size == 1:
        return [compute(piece) for piece in range(len(like))]
    by_rank, end = (
        shares([orthogonalization_cost(*matrix.shape) for matrix in like], peers.world_size),
        0,
    )
    length = max(sum(like[piece].numel() for piece in share) for share in by_rank)
    own_P = torch.zeros(length, dtype=dtype, device=like[0].device)
    for piece in by_rank[peers.rank]:
        start, end = end, end + like[piece].numel()
        own_P[start:end] = compute(piece).flatten()
    results: dict[int, Tensor] = {}
    for share, message_P in zip(by_rank, peers.all_gather(own_P), strict=True):
        for piece in share:
            results[piece] = message_P[: like[piece].numel()].view(like[piece].shape)
            message_P = message_P[like[piece].numel() :]
    return [results[piece] for piece in range(len(like))]


def orthogonalization_cost(num_rows: int, num_columns: int) -> int:
    """Return the relative cost of making one matrix orthogonal: the operations of its products."""
    small, large = sorted((num_rows, num_columns))
    return small * small * (2 * large + small)
