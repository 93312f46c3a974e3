"""N-grams against a plain reference, and verdicts of baselines about a model."""

import math
import random
from collections import Counter

import numpy as np
import pytest

from charlstm.evaluation.baselines import (
    MIN_DISCOUNT,
    discounts,
    measure_baselines,
    ngram_nats,
    xz_bits,
)
from charlstm.text.vocabulary import Vocab

MAX_ORDER = 4
TRAIN = "the cat sat on the mat, the dog sat on the log. Η γάτα κάθισε 😀. " * 20
TEXT = "the cat sat on the log, and the dog 😀 too.\n"


def text_of(num_chars: int, vocab_size: int, seed: int) -> np.ndarray:
    """Return ids in which every third is random and the others depend on earlier ids."""
    draws = np.random.default_rng(seed).integers(0, vocab_size, num_chars)
    repeated = np.where(np.arange(num_chars) % 3 == 0, draws, np.roll(draws, 3) // 2)
    return repeated.astype(np.uint8)


class Reference:
    """N-gram model of modified Kneser-Ney smoothing, written as in the equations."""

    def __init__(self, ids: list[int], vocab_size: int, order: int) -> None:
        grams = {
            k: Counter(tuple(ids[i : i + k]) for i in range(len(ids) - k + 1))
            for k in range(1, order + 2)
        }
        self.vocab_size = vocab_size
        self.counts = {k: Counter(gram[1:] for gram in grams[k + 1]) for k in range(1, order)}
        self.counts[order] = grams[order]

    def discount(self, k: int, count: int) -> float:
        n = Counter(self.counts[k].values())
        if min(n[1], n[2], n[3], n[4]) == 0:
            return 0.5
        y = n[1] / (n[1] + 2 * n[2])
        c = min(count, 3)
        return min(max(0.0, c - (c + 1) * y * n[c + 1] / n[c]), c)

    def probability(self, context: tuple[int, ...], character: int) -> float:
        k = len(context) + 1
        lower = 1 / self.vocab_size if k == 1 else self.probability(context[1:], character)
        counts = self.counts[k].items()
        after = {gram: count for gram, count in counts if gram[:-1] == context and count > 0}
        if not after:
            return lower
        total = sum(after.values())
        freed = sum(self.discount(k, count) for count in after.values())
        count = after.get((*context, character), 0)
        own = count - self.discount(k, count) if count else 0.0
        return (own + freed * lower) / total


@pytest.mark.parametrize(("num_chars", "vocab_size"), [(400, 5), (60, 9), (3, 2)])
def test_every_order_is_the_reference(num_chars: int, vocab_size: int) -> None:
    train = text_of(num_chars, vocab_size, 1)
    text = text_of(40, vocab_size, 2)
    nats_KN = ngram_nats(train, text, vocab_size, MAX_ORDER)
    num_orders = min(MAX_ORDER, num_chars - 1)
    assert nats_KN.shape == (num_orders, 40)
    for order in range(1, num_orders + 1):
        reference = Reference(train.tolist(), vocab_size, order)
        expected = [
            -math.log(reference.probability(tuple(text[i - order + 1 : i].tolist()), int(text[i])))
            for i in range(order - 1, len(text))
        ]
        assert np.allclose(nats_KN[order - 1, order - 1 :], expected, rtol=1e-12)


def test_what_training_lacks_is_never_impossible() -> None:
    """If many k-grams occur three times and few twice, the estimate for two is negative."""
    counts = np.array([1] * 8 + [2] + [3] * 10 + [4])
    assert (discounts(counts)[1:] >= MIN_DISCOUNT).all()


def test_the_figures_are_means_over_the_characters_scored() -> None:
    found = measure_baselines(TRAIN, TEXT)
    vocab = Vocab.of(TRAIN + TEXT)
    nats_KN = ngram_nats(vocab.encode(TRAIN), vocab.encode(TEXT), len(vocab))
    assert found.num_chars == len(TEXT) - 1 and found.num_training_chars == len(TRAIN)
    assert list(found.bits_per_char) == [*(f"{order}-gram" for order in range(1, 7)), "xz"]
    assert np.allclose(list(found.ngrams.values()), nats_KN[:, 1:].mean(1) / math.log(2), atol=1e-6)
    best = min(found.bits_per_char.values())
    verdicts = {best - 1: "the model predicts", best - 0.005: "a tie: ", best + 1: "a "}
    for bits, beginning in verdicts.items():
        assert found.verdict(bits).startswith(beginning), found.verdict(bits)
        assert found.is_beaten_by(bits) == (bits == best - 1)


def test_what_a_compressor_has_seen_costs_next_to_nothing() -> None:
    seen = random.Random(1).randbytes(20_000)
    new = random.Random(2).randbytes(2_000)
    assert 8 * len(new) <= xz_bits(seen, new) < 8 * len(new) * 1.02
    far = seen + bytes(10_000_000)  # xz's usual window is 8 MB
    assert xz_bits(far, seen) < 0.02 * 8 * len(seen)
