"""What a compressor that has seen a text knows of it costs next to nothing."""

import random

from charlstm.evaluation.baselines import xz_bits

SEEN = random.Random(1).randbytes(20_000)
NEW = random.Random(2).randbytes(2_000)


def test_noise_costs_what_it_is() -> None:
    assert 8 * len(NEW) <= xz_bits(SEEN, NEW) < 8 * len(NEW) * 1.02


def test_what_was_seen_long_ago_costs_next_to_nothing() -> None:
    far = SEEN + bytes(10_000_000)  # beyond the usual window, 8 MB
    assert xz_bits(far, SEEN) < 0.02 * 8 * len(SEEN)


def test_a_tiny_text() -> None:
    assert 0 <= xz_bits(b"ab", b"ba") < 200
    assert xz_bits(b"ab", b"") < 100
