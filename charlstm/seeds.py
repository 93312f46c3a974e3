"""Random generators derived from a seed, a purpose and counters.

Every draw can be repeated without repeating earlier draws.
"""

import hashlib

import numpy as np
import torch


def derive_seed(seed: int, purpose: str, *counters: int) -> int:
    """Return a 63-bit hash of the arguments. Other purposes or counters give unrelated seeds."""
    digest = hashlib.blake2b(repr((seed, purpose, *counters)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def torch_generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """Return a fresh CPU generator of torch."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *counters))


def numpy_generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return a fresh generator of numpy."""
    return np.random.default_rng(derive_seed(seed, purpose, *counters))
