"""Work that is shared out among processes: each piece is made by one of them, and received by all.

What a piece is does not depend on how many processes there are, nor on who makes it.
Shapes: N processes, P numbers in a message.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

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

    def all_gather(self, mine: Tensor, /) -> Tensor:
        """What each process gave, stacked by rank; all give the same shape and dtype. Collective."""


class Alone(NamedTuple):
    """One process."""

    rank: int = 0
    world_size: int = 1

    def all_gather(self, mine: Tensor, /) -> Tensor:
        """Only what was given."""
        return mine[None]


def shares(costs: Sequence[float], num_processes: int) -> list[list[int]]:
    """The pieces of each process: the costliest first, each to the process with the least so far (Graham 1969).

    The busiest process has at most a third more to do than under the best sharing.
    """
    found: list[list[int]] = [[] for _ in range(num_processes)]
    loads = [0.0] * num_processes
    for piece in sorted(range(len(costs)), key=lambda piece: -costs[piece]):
        least = loads.index(min(loads))
        found[least].append(piece)
        loads[least] += costs[piece]
    return found


def make_together(
    make: Callable[[int], Tensor], like: Sequence[Tensor], costs: Sequence[float], dtype: torch.dtype, peers: Peers
) -> list[Tensor]:
    """`make(piece)` of every piece, in order: tensors of the shapes and devices of `like`, in `dtype`.

    One message of equal length from each process, so that every process has the same bits. One process sends nothing.
    """
    if peers.world_size == 1:
        return [make(piece) for piece in range(len(like))]
    by_rank = shares(costs, peers.world_size)
    length = max(sum(like[piece].numel() for piece in share) for share in by_rank)
    mine_P = torch.zeros(length, dtype=dtype, device=like[0].device)
    for piece, place in zip(by_rank[peers.rank], _places(mine_P, by_rank[peers.rank], like), strict=True):
        place.copy_(make(piece))
    found: dict[int, Tensor] = {}
    for share, message_P in zip(by_rank, peers.all_gather(mine_P), strict=True):
        found |= zip(share, _places(message_P, share, like), strict=True)
    return [found[piece] for piece in range(len(like))]


def _places(message_P: Tensor, share: Sequence[int], like: Sequence[Tensor]) -> list[Tensor]:
    """Where the pieces of `share` lie in a message, one after the other."""
    sizes = [like[piece].numel() for piece in share]
    parts = torch.split(message_P[: sum(sizes)], sizes)
    return [part.view(like[piece].shape) for piece, part in zip(share, parts, strict=True)]
