"""Muon's products, shared by processes: the same bits for any number of processes."""

from threading import Barrier, Thread

import pytest
import torch
from torch import Tensor

from charlstm.optimization.muon import Muon

NUM_STEPS = 3
# Sizes of parameters. The first two consist of four matrices.
SIZES = ((48, 8), (48, 12), (12, 12), (20, 12), (12, 20), (8, 8))
NUM_ROWS = (12, 12, 12, 20, 12, 8)


class Together:
    """Threads that stand in for processes."""

    def __init__(self, world_size: int) -> None:
        self.world_size = world_size
        self.given = [torch.empty(0)] * world_size
        self.barrier = Barrier(world_size, timeout=60)
        self.num_numbers: list[int] = []


class OneOf:
    """Thread with its rank."""

    def __init__(self, rank: int, together: Together) -> None:
        self.rank = rank
        self.world_size = together.world_size
        self.together = together

    def gather(self, mine: Tensor) -> Tensor:
        self.together.given[self.rank] = mine
        self.together.num_numbers.append(mine.numel())
        self.together.barrier.wait()
        everyones = torch.stack(self.together.given)
        self.together.barrier.wait()
        return everyones


def draw(seed: int, size: tuple[int, int]) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def trained(peer: OneOf, dtype: torch.dtype) -> list[Tensor]:
    weights = [torch.nn.Parameter(draw(0, size)) for size in SIZES]
    groups = [
        {"params": [weight], "num_rows": rows}
        for weight, rows in zip(weights, NUM_ROWS, strict=True)
    ]
    muon = Muon(groups, 0.1, momentum=0.9, weight_decay=0.1, dtype=dtype, peers=peer)
    for step in range(NUM_STEPS):
        for place, weight in enumerate(weights[:-1]):
            weight.grad = draw(100 * step + place, SIZES[place])
        muon.step()
    return [weight.detach() for weight in weights]


def trained_together(world_size: int, dtype: torch.dtype) -> tuple[list[list[Tensor]], Together]:
    together = Together(world_size)
    results: dict[int, list[Tensor]] = {}

    def train(rank: int) -> None:
        results[rank] = trained(OneOf(rank, together), dtype)

    threads = [Thread(target=train, args=(rank,)) for rank in range(world_size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[rank] for rank in range(world_size)], together


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("world_size", [2, 5, 16])
def test_weights_have_the_same_bits_for_any_number_of_processes(
    world_size: int, dtype: torch.dtype
) -> None:
    alone, _ = trained_together(1, dtype)
    assert not torch.equal(alone[0][0], draw(0, SIZES[0]))
    # A weight without a gradient stays unchanged.
    assert torch.equal(alone[0][-1], draw(0, SIZES[-1]))
    everyones, together = trained_together(world_size, dtype)
    assert len(everyones) == world_size
    for weights in everyones:
        assert all(torch.equal(one, other) for one, other in zip(weights, alone[0], strict=True))
    assert len(together.num_numbers) == NUM_STEPS * world_size
    assert len(set(together.num_numbers)) == 1
