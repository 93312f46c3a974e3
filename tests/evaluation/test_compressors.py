"""Compressors that have seen a text: what they know of it costs next to nothing."""

import random

import pytest

from charlstm.evaluation.baselines import xz_bits, zstd_bits

COMPRESSORS = pytest.mark.parametrize("bits_of", [xz_bits, zstd_bits])
SEEN = random.Random(1).randbytes(20_000)
NEW = random.Random(2).randbytes(2_000)


@COMPRESSORS
def test_noise_costs_what_it_is(bits_of: object) -> None:
    bits = bits_of(SEEN, NEW)  # type: ignore[operator]
    assert 8 * len(NEW) <= bits < 8 * len(NEW) * 1.02


@COMPRESSORS
def test_what_was_seen_long_ago_costs_next_to_nothing(bits_of: object) -> None:
    far = SEEN + bytes(10_000_000)  # beyond the usual windows of both, 8 MB
    assert bits_of(far, SEEN) < 0.02 * 8 * len(SEEN)  # type: ignore[operator]


@COMPRESSORS
def test_a_tiny_text(bits_of: object) -> None:
    assert 0 <= bits_of(b"ab", b"ba") < 200  # type: ignore[operator]
