"""Generators derived from (seed, purpose, counters): every draw can be repeated without replaying the ones before."""

import zlib

import numpy as np
import torch


def derive_seed(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed; independent for different purposes and counters (numpy's SeedSequence)."""
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), *counters]).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))


def torch_generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A fresh CPU generator of torch."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *counters))


def numpy_generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A fresh generator of numpy."""
    return np.random.default_rng(derive_seed(seed, purpose, *counters))
