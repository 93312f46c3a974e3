import pytest
import torch
from torch import Tensor

from charlstm.model.dropout import DropoutMasks, DropoutRates, draw_masks
from charlstm.model.shape import ModelShape
from charlstm.seeds import derive_seed, numpy_generator, torch_generator
from charlstm.training.batches import rows_of

RATES = DropoutRates(0.1, 0.2, 0.4)


def masks(rows: slice, num_steps: int = 1) -> DropoutMasks:
    return draw_masks(
        torch.Generator().manual_seed(3),
        RATES,
        ModelShape(
            vocab_size=9, embedding_size=40, hidden_size=50, num_layers=2, feed_forward_size=7
        ),
        num_steps=num_steps,
        rows=rows,
        batch_size=10,
        num_output_samples=2,
    )


def there(mask: Tensor | None) -> Tensor:
    assert mask is not None
    return mask


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_masks_do_not_depend_on_the_number_of_processes(world_size: int) -> None:
    whole = masks(slice(0, 10))
    parts = [masks(rows_of(rank, world_size, 10)) for rank in range(world_size)]
    assert torch.equal(
        torch.cat([there(part.embedding) for part in parts], dim=1), there(whole.embedding)
    )
    between = torch.cat([there(part.between_layers[1]) for part in parts], dim=1)
    assert torch.equal(between, there(whole.between_layers[1]))
    assert torch.equal(
        torch.cat([there(part.output) for part in parts], dim=2), there(whole.output)
    )


def test_values_keep_the_mean_and_the_rate() -> None:
    mask = there(masks(slice(0, 10), num_steps=200).output)
    assert mask.shape == (2, 200, 10, 50)
    assert not torch.equal(mask[0], mask[1])
    assert sorted(set(mask.flatten().tolist())) == pytest.approx([0, 1 / 0.6])
    assert mask.eq(0).float().mean() == pytest.approx(0.4, abs=0.01)
    assert mask.mean() == pytest.approx(1.0, abs=0.02)


def test_purposes_and_counters_give_independent_and_repeatable_draws() -> None:
    seeds = {
        derive_seed(s, p, *c)
        for s in (0, 1)
        for p in ("dropout", "reset")
        for c in ((), (0,), (1,), (1, 0))
    }
    assert len(seeds) == 16
    assert all(0 <= seed < 2**63 for seed in seeds)
    first, second = (torch.rand(5, generator=torch_generator(1, "x", 2)) for _ in range(2))
    assert torch.equal(first, second)
    assert numpy_generator(1, "x").random() == numpy_generator(1, "x").random()


def test_seeds_stay_what_they_are() -> None:
    """A changed derivation would change every result and go unnoticed."""
    assert derive_seed(1, "dropout", 7) == 7880137346739285272
