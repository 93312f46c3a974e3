"""Masks of dropout, and seeds."""

from itertools import product

import pytest
import torch
from torch import Tensor

from charlstm.model.dropout import DropoutMasks, DropoutRates, draw_masks
from charlstm.model.shape import ModelShape
from charlstm.seeds import derive_seed
from charlstm.training.batches import rows_of

RATES = DropoutRates(0.1, 0.2, 0.4)


def masks(rows: slice, num_steps: int = 1) -> DropoutMasks:
    return draw_masks(
        3,
        7,
        RATES,
        ModelShape(9, 40, 50, 2, 7),
        num_steps=num_steps,
        rows=rows,
        batch_size=10,
        num_output_samples=2,
    )


def joined(masks: list[Tensor | None], dim: int) -> Tensor:
    return torch.cat([mask for mask in masks if mask is not None], dim)


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_masks_do_not_depend_on_the_number_of_processes(world_size: int) -> None:
    whole = masks(slice(0, 10))
    parts = [masks(rows_of(rank, world_size, 10)) for rank in range(world_size)]
    for found, expected in (
        (joined([part.embedding for part in parts], 1), whole.embedding),
        (joined([part.between_layers[1] for part in parts], 1), whole.between_layers[1]),
        (joined([part.output for part in parts], 2), whole.output),
    ):
        assert expected is not None and torch.equal(found, expected)


def test_values_keep_the_mean_and_the_rate() -> None:
    mask = masks(slice(0, 10), num_steps=200).output
    assert mask is not None
    assert mask.shape == (2, 200, 10, 50)
    assert not torch.equal(mask[0], mask[1])
    assert sorted(set(mask.flatten().tolist())) == pytest.approx([0, 1 / 0.6])
    assert mask.eq(0).float().mean() == pytest.approx(0.4, abs=0.01)
    assert mask.mean() == pytest.approx(1.0, abs=0.02)


def test_purposes_and_counters_give_different_seeds() -> None:
    counters = ((), (0,), (1,), (1, 0))
    purposes = product((0, 1), ("dropout", "reset"), counters)
    seeds = {derive_seed(seed, purpose, *counter) for seed, purpose, counter in purposes}
    assert len(seeds) == 16
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_stay_what_they_are() -> None:
    """A changed derivation would change every result without any other failure."""
    assert derive_seed(1, "dropout", 7) == 7880137346739285272
