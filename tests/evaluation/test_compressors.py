"""Compressors that have seen a text: what they know of it costs next to nothing."""

import random
from collections.abc import Callable

import pyppmd
import pytest

from charlstm.evaluation import baselines
from charlstm.evaluation.baselines import COMPRESSORS, ppmd_bits

EACH = pytest.mark.parametrize("bits_of", COMPRESSORS.values(), ids=COMPRESSORS)
SEEN = random.Random(1).randbytes(20_000)
NEW = random.Random(2).randbytes(2_000)


@EACH
def test_noise_costs_what_it_is(bits_of: Callable[[bytes, bytes], int]) -> None:
    bits = bits_of(SEEN, NEW)
    assert 8 * len(NEW) <= bits < 8 * len(NEW) * 1.02


@EACH
def test_what_was_seen_long_ago_costs_next_to_nothing(bits_of: Callable[[bytes, bytes], int]) -> None:
    far = SEEN + bytes(10_000_000)  # beyond the usual windows of both, 8 MB
    assert bits_of(far, SEEN) < 0.02 * 8 * len(SEEN)


@EACH
def test_a_tiny_text(bits_of: Callable[[bytes, bytes], int]) -> None:
    assert 0 <= bits_of(b"ab", b"ba") < 200
    assert bits_of(b"ab", b"") < 100


def words(seed: int, number: int) -> bytes:
    return " ".join(f"w{number}" for number in random.Random(seed).choices(range(300), k=number)).encode()


def test_ppmd_takes_what_its_stream_grows_by() -> None:
    train, text = words(1, 5_000), words(2, 500)
    before, after = (pyppmd.compress(one, max_order=16, mem_size=2**24) for one in (train, train + text))
    assert abs(ppmd_bits(train, text) - 8 * (len(after) - len(before))) <= 16  # these have a mark at their ends
    assert pyppmd.decompress(after, max_order=16, mem_size=2**24) == train + text


def test_ppmd_has_the_same_bits_on_every_machine() -> None:
    assert ppmd_bits(SEEN, NEW) == 16_280
    assert ppmd_bits(words(1, 5_000), words(2, 500)) == 4_448


@pytest.mark.parametrize("number", [12_000, 24_000])  # after which a model that began anew would just have begun
def test_ppmd_goes_on_where_its_memory_ends(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train, text = words(1, number), words(2, 200)
    enough = ppmd_bits(train, text)
    monkeypatch.setattr(baselines, "PPMD_MAX_MEMORY", 2**20)
    assert enough != ppmd_bits(train, text) < 1.05 * enough
