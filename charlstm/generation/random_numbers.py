"""Random numbers for generated texts: SplitMix64 (Steele, Lea & Flood 2014), indexed by position.

A random number depends only on the text's key and a position, so texts in one batch cannot
influence each other. The numbers are the same on every machine.

Shapes: R rows.
"""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint64]
STEP: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio
FACTORS: Final = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def key_of(seed: int, prompt: str, number: int, read: bytes = b"") -> int:
    """Return the 64-bit key that determines the random numbers of one text.

    Args:
        number: index of the text among the texts with the same prompt and seed.
        read: state of the model before the prompt, as bytes. Without the state, a text that
            continues another text would use the other text's random numbers and soon repeat it.
    """
    values = [0, *map(ord, prompt)]
    if number:
        # The shifted number exceeds all code points, so it never equals a prompt's character.
        values.append(number << 32)
    if read:
        values.append(int.from_bytes(hashlib.sha256(read).digest()[:8]))
    key = np.array([seed % 2**64], np.uint64)
    for value in values:
        key = _mixed(key ^ np.uint64(value))
    return int(key[0])


def uniforms(keys_R: Bits, start: int, count: int) -> NDArray[np.float64]:
    """Return 53-bit random numbers (R, count) in [0, 1) for `count` positions from `start` on."""
    positions = np.arange(start, start + count, dtype=np.uint64)
    bits = _mixed(keys_R[:, None] + positions * STEP) >> np.uint64(11)
    numbers: NDArray[np.float64] = bits.astype(np.float64) * 2.0**-53
    return numbers


def _mixed(bits: Bits) -> Bits:
    bits = bits + STEP
    bits = (bits ^ (bits >> np.uint64(30))) * FACTORS[0]
    bits = (bits ^ (bits >> np.uint64(27))) * FACTORS[1]
    return bits ^ (bits >> np.uint64(31))
