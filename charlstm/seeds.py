"""Generators derived from (seed, purpose, counters): every draw can be repeated without replaying the ones before."""

import hashlib

import numpy as np
import torch


def derive_seed(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed, a hash of the arguments: other purposes or counters give unrelated ones."""
    digest = hashlib.blake2b(repr((seed, purpose, *counters)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def torch_generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A fresh CPU generator of torch."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *counters))


def numpy_generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """A fresh generator of numpy."""
    return np.random.default_rng(derive_seed(seed, purpose, *counters))
