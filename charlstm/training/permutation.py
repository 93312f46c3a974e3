"""Numbers in random order, without a table of them: any part of the order can be asked for, in memory for that part.

A Feistel network maps the numbers below a power of 4 one to one, whatever its round function is (Luby and Rackoff
1988). A number that lands at `size` or above is mapped again until it lands below ("cycle walking", Black and Rogaway
2002): what is left is one to one, too. The power of 4 is less than 4 times `size`, so that this takes 4 rounds at most
on average.
"""

import numpy as np
from numpy.typing import NDArray

NUM_ROUNDS = 6
Numbers = NDArray[np.uint64]


class Permutation:
    """An order of the numbers below `size`, drawn from `generator`."""

    def __init__(self, size: int, generator: np.random.Generator) -> None:
        self._size = size
        self._half_bits = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
        self._mask = np.uint64(2 ** int(self._half_bits) - 1)
        self._keys = generator.integers(2**64, size=NUM_ROUNDS, dtype=np.uint64)

    def numbers_at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The numbers at `places` of the order, all below `size`."""
        numbers = self._mapped(places.astype(np.uint64))
        while (is_outside := numbers >= self._size).any():
            numbers[is_outside] = self._mapped(numbers[is_outside])
        return numbers.astype(np.int64)

    def _mapped(self, numbers: Numbers) -> Numbers:
        left, right = numbers >> self._half_bits, numbers & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right ^ key) & self._mask)
        return left << self._half_bits | right


def _mixed(numbers: Numbers) -> Numbers:
    """SplitMix64's finalizer (Steele, Lea and Flood 2014): each bit depends on all."""
    numbers = (numbers ^ numbers >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ numbers >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return numbers ^ numbers >> np.uint64(31)
