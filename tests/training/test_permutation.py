"""An order that is never written down is one all the same: each number once, and no order like another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.training.batches import Permutation


def order(size: int, seed: int) -> np.ndarray:
    return Permutation(size, np.random.default_rng(seed)).numbers_at(np.arange(size))


@given(size=st.integers(1, 5000), seed=st.integers(0, 2**32))
def test_each_number_comes_once(size: int, seed: int) -> None:
    assert sorted(order(size, seed).tolist()) == list(range(size))


@given(size=st.integers(2, 2**40), seed=st.integers(0, 2**32), data=st.data())
def test_a_part_of_a_huge_order_has_no_number_twice_and_none_outside(size: int, seed: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, size - 1))
    found = Permutation(size, np.random.default_rng(seed)).numbers_at(np.arange(start, min(size, start + 1000)))
    assert found.min() >= 0 and found.max() < size
    assert len(set(found.tolist())) == len(found)


@pytest.mark.parametrize("size", [300, 1000])
def test_every_number_comes_everywhere(size: int) -> None:
    """The chi-squared statistics of where a number stands and of what follows it, over many orders."""
    orders = np.stack([order(size, seed) for seed in range(2000)])
    steps = (orders[:, 1] - orders[:, 0]) % size
    for values in (orders[:, 0], orders[:, size // 2], orders[:, -1], np.argmax(orders == 0, axis=1), steps):
        counts = np.bincount(values * 20 // size, minlength=20)
        assert ((counts - 100) ** 2 / 100).sum() < 53  # 19 degrees of freedom, p = 5e-5: and the seeds are fixed
