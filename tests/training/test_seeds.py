import torch

from charlstm.seeds import derive_seed, numpy_generator, torch_generator


def test_purposes_and_counters_give_independent_and_repeatable_draws() -> None:
    seeds = {derive_seed(s, p, *c) for s in (0, 1) for p in ("dropout", "reset") for c in ((), (0,), (1,), (1, 0))}
    assert len(seeds) == 16
    assert all(0 <= seed < 2**63 for seed in seeds)
    first, second = (torch.rand(5, generator=torch_generator(1, "x", 2)) for _ in range(2))
    assert torch.equal(first, second)
    assert numpy_generator(1, "x").random() == numpy_generator(1, "x").random()


def test_seeds_stay_what_they_are() -> None:
    """A changed derivation would change every result and go unnoticed."""
    assert derive_seed(1, "dropout", 7) == 7880137346739285272
