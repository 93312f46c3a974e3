"""Random numbers of a text: a function of its seed, its prompt and the character's position, and of nothing else.

They are counted, not drawn one after the other from a state, so rows of a batch cannot disturb each other. The numbers
are those of SplitMix64 (Steele, Lea & Flood 2014), in 64-bit integers, the same on every machine and in every browser.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

MASK: Final = 2**64 - 1
STEP: Final = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio
FACTORS: Final = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def key_of(seed: int, prompt: str, number: int) -> int:
    """64 bits that begin the numbers of one text; `number` counts the texts of one prompt and seed."""
    key = seed & MASK
    for value in (number, *map(ord, prompt)):
        key = _mixed(key ^ value)
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
