"""Generators derived from (seed, purpose, counters): every draw can be repeated without replaying the ones before."""

import hashlib
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray


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


# Random numbers of a text that is written: SplitMix64 (Steele, Lea & Flood 2014), counted by the character's position,
# so that texts which are written together cannot disturb each other. They are the same on every machine.
# Shapes: R rows.

MASK: Final = 2**64 - 1
STEP: Final = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio
FACTORS: Final = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def key_of(seed: int, prompt: str, number: int, read: bytes = b"") -> int:
    """64 bits that begin the numbers of one text; `number` counts the texts of one prompt and seed.

    `read` stands for what was read before the prompt. Without it, a text that goes on from another one would be drawn
    with the numbers of that one, and soon repeat it.
    """
    key = seed & MASK
    for value in (0, *map(ord, prompt)):
        key = _mixed(key ^ value)
    if number:  # above all characters: another seed has other texts, not the same ones in another order
        key = _mixed(key ^ (number << 32))
    if read:
        key = _mixed(key ^ int.from_bytes(hashlib.sha256(read).digest()[:8]))
    return key


def uniforms(keys_R: NDArray[np.uint64], start: int, count: int) -> NDArray[np.float64]:
    """Numbers (R, count) in [0, 1), with 53 bits: those at positions `start`, `start + 1`, ... of each row's text."""
    positions = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    bits = keys_R[:, None] + positions * np.uint64(STEP)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(FACTORS[0])
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(FACTORS[1])
    bits = (bits ^ (bits >> np.uint64(31))) >> np.uint64(11)
    numbers: NDArray[np.float64] = bits.astype(np.float64) * 2.0**-53
    return numbers


def _mixed(bits: int) -> int:
    bits = (bits + STEP) & MASK
    bits = ((bits ^ (bits >> 30)) * FACTORS[0]) & MASK
    bits = ((bits ^ (bits >> 27)) * FACTORS[1]) & MASK
    return bits ^ (bits >> 31)
