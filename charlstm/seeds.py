"""Random generators derived from a seed, a purpose and counters.

Any random numbers can be reproduced without generating the earlier ones.
"""

import hashlib

import numpy as np
import torch


def derive_seed(seed: int, purpose: str, *counters: int) -> int:
    """Return a 63-bit hash of the arguments. Different arguments give unrelated hashes."""
    digest = hashlib.blake2b(repr((seed, purpose, *counters)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def torch_generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """Return a new torch generator on the CPU, seeded from the arguments."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *counters))


def numpy_generator(seed: int, purpose: str, *counters: int) -> np.random.Generator:
    """Return a new NumPy generator, seeded from the arguments."""
    return np.random.default_rng(derive_seed(seed, purpose, *counters))
