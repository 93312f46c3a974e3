"""The n-gram model against a plain one that follows the equations word for word, and its probabilities' sums."""

import math
from collections import Counter

import numpy as np
import pytest

from charlstm.evaluation import baselines
from charlstm.evaluation.baselines import NGramModel, discounts

MAX_ORDER = 4


def text_of(num_chars: int, vocab_size: int, seed: int) -> np.ndarray:
    draws = np.random.default_rng(seed).integers(0, vocab_size, num_chars)
    repeated = np.where(np.arange(num_chars) % 3 == 0, draws, np.roll(draws, 3) // 2)
    return repeated.astype(np.uint8)


class Reference:
    def __init__(self, ids: list[int], vocab_size: int, order: int) -> None:
        grams = {k: Counter(tuple(ids[i : i + k]) for i in range(len(ids) - k + 1)) for k in range(1, order + 2)}
        self.vocab_size = vocab_size
        self.counts = {k: Counter(gram[1:] for gram in grams[k + 1]) for k in range(1, order)}
        self.counts[order] = grams[order]

    def discount(self, k: int, count: int) -> float:
        n = Counter(self.counts[k].values())
        if min(n[1], n[2], n[3], n[4]) == 0:
            return baselines.FALLBACK_DISCOUNT
        y, c = n[1] / (n[1] + 2 * n[2]), min(count, 3)
        return min(max(0.0, c - (c + 1) * y * n[c + 1] / n[c]), c)

    def probability(self, context: tuple[int, ...], character: int) -> float:
        k = len(context) + 1
        lower = 1 / self.vocab_size if k == 1 else self.probability(context[1:], character)
        after = {gram: count for gram, count in self.counts[k].items() if gram[:-1] == context and count > 0}
        if not after:
            return lower
        total = sum(after.values())
        freed = sum(self.discount(k, count) for count in after.values())
        count = after.get((*context, character), 0)
        own = count - self.discount(k, count) if count else 0.0
        return (own + freed * lower) / total


@pytest.mark.parametrize(("num_chars", "vocab_size"), [(400, 5), (60, 9), (3, 2)])
def test_every_order_is_the_reference(num_chars: int, vocab_size: int) -> None:
    train, text = text_of(num_chars, vocab_size, 1), text_of(40, vocab_size, 2)
    nats_KN = NGramModel(train, vocab_size, MAX_ORDER).char_nats(text)
    num_orders = min(MAX_ORDER, num_chars - 1)
    assert nats_KN.shape == (num_orders, 40)
    for order in range(1, num_orders + 1):
        reference = Reference(train.tolist(), vocab_size, order)
        expected = [
            -math.log(reference.probability(tuple(text[i - order + 1 : i].tolist()), int(text[i])))
            for i in range(order - 1, len(text))
        ]
        assert np.allclose(nats_KN[order - 1, order - 1 :], expected, rtol=1e-12)


def test_the_sum_leaves_out_the_first_character_and_does_not_depend_on_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model, text = NGramModel(text_of(900, 7, 5), 7), text_of(101, 7, 6)
    expected = [math.fsum(nats_N[1:]) for nats_N in model.char_nats(text)]
    assert model.nats(text) == expected
    for size in (1, 7, 100):
        monkeypatch.setattr(baselines, "CHARS_AT_ONCE", size)
        assert np.allclose(model.nats(text), expected, rtol=1e-13)


def test_what_training_lacks_is_never_impossible() -> None:
    """Where many k-grams occur three times and few twice, the estimate for two is negative."""
    counts = np.array([1] * 8 + [2] + [3] * 10 + [4])
    assert (discounts(counts)[1:] >= baselines.MIN_DISCOUNT).all()
