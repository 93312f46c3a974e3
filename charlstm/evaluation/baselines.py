"""What a text costs without a network, in bits a character: n-grams and xz, which have seen the training text.

The n-grams have interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998, Harvard TR-10-98, section 3).
For a character w after the context h of k - 1 characters:

    p_k(w | h) = (c(hw) - D(c(hw))) / c(h)  +  Σ_w' D(c(hw')) / c(h) · p_{k-1}(w | h without its first character)

At the highest order, c is how often the k-gram occurs; below it, the number of distinct characters before it. Below
order 1 is the uniform distribution. After a context that training never saw, p_k is p_{k-1}.
Shapes: N characters, G distinct k-grams, H their distinct contexts, K orders.
"""

import lzma
import math
from functools import partial
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from charlstm.evaluation.documents import Document, read_document
from charlstm.text.vocabulary import Ids, Vocab

MAX_ORDER = 6
CHARS_AT_ONCE = 1_000_000  # bounds memory
FALLBACK_DISCOUNT = 0.5  # where too few k-grams have small counts to estimate one
MIN_DISCOUNT = 0.05  # without any, what training has not after a context would be impossible
BASELINES = "baselines.json"
MAX_CHARS = 20_000_000  # of each text: bounds time and memory
DIGITS = 6  # what is left out is below what another processor's logarithm may change

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class _Counts(NamedTuple):
    """p_k in parts, from one kind of count."""

    discounted_G: Floats  # c(hw) - D(c(hw))
    total_H: Ints  # c(h)
    freed_H: Floats  # Σ D: what the discounts leave to the order below

    @classmethod
    def of(cls, counts_G: Ints, contexts_G: Ints, num_contexts: int) -> "_Counts":
        discount_G = discounts(counts_G)[np.minimum(counts_G, 3)]
        total_H = np.bincount(contexts_G, counts_G, num_contexts).astype(np.int64)
        return cls(counts_G - discount_G, total_H, np.bincount(contexts_G, discount_G, num_contexts).astype(float))

    def interpolated(self, contexts_N: Ints, ranks_N: Ints, lower_N: Floats) -> Floats:
        total_N = np.where(contexts_N >= 0, self.total_H[contexts_N], 0)
        own_N = np.where(ranks_N >= 0, self.discounted_G[ranks_N], 0.0)
        interpolated_N = (own_N + self.freed_H[contexts_N] * lower_N) / np.maximum(total_N, 1)
        return np.where(total_N > 0, interpolated_N, lower_N)


class NGramModel:
    """Models of orders 1 to `max_order` of a text; some 100 bytes of memory for each of its characters."""

    def __init__(self, train_ids: Ids, vocab_size: int, max_order: int = MAX_ORDER) -> None:
        # A k-gram's number is the rank of its context times V plus its last character: 64 bits for any alphabet.
        self._vocab_size, self._orders = vocab_size, list[tuple[Ints, _Counts, _Counts]]()
        ids_N = train_ids.astype(np.int64)
        numbers_G = counts_G = np.zeros(1, np.int64)  # of the empty k-gram
        ranks_N = np.zeros(len(ids_N) + 1, np.int64)  # of the k-gram that starts at each place
        num_contexts = 0
        for k in range(1, min(max_order + 1, len(ids_N)) + 1):
            longer_N = ranks_N[: len(ids_N) - k + 1] * vocab_size + ids_N[k - 1 :]
            longer_G, longer_ranks_N, longer_counts_G = np.unique(longer_N, return_inverse=True, return_counts=True)
            if k > 1:  # what precedes a k-gram is known from the longer ones
                place_G = np.empty(len(longer_G), np.int64)
                place_G[longer_ranks_N] = np.arange(len(longer_N))
                num_preceding_G = np.bincount(ranks_N[place_G + 1], minlength=len(numbers_G))
                contexts_G = numbers_G // vocab_size
                highest = _Counts.of(counts_G, contexts_G, num_contexts)
                lower = _Counts.of(num_preceding_G, contexts_G, num_contexts)
                self._orders.append((numbers_G, highest, lower))
            num_contexts, numbers_G, ranks_N, counts_G = len(numbers_G), longer_G, longer_ranks_N, longer_counts_G

    def nats(self, ids: Ids) -> list[float]:
        """The nats of all characters of a text but the first, by order."""
        parts = []
        for start in range(1, len(ids), CHARS_AT_ONCE):
            before = max(0, start - len(self._orders))  # as much as the highest order looks back
            nats_KN = self.char_nats(ids[before : start + CHARS_AT_ONCE])[:, start - before :]
            parts.append([math.fsum(nats_N) for nats_N in nats_KN])
        return [math.fsum(sums) for sums in zip(*parts, strict=True)]

    def char_nats(self, ids: Ids) -> Floats:
        """Nats of each character of a text (K, N), a row for each order; the first ones have shorter contexts."""
        ids_N = ids.astype(np.int64)
        nats_KN = np.empty((len(self._orders), len(ids_N)))
        lower_N = np.full(len(ids_N), 1 / self._vocab_size)  # p_{k-1} of the character at each place
        ranks_N = np.zeros(len(ids_N) + 1, np.int64)  # of the (k-1)-gram that starts at each place; -1: not in training
        for k, (numbers_G, highest, lower) in enumerate(self._orders, 1):
            contexts_N = ranks_N[: max(0, len(ids_N) - k + 1)]
            numbers_N = contexts_N * self._vocab_size + ids_N[k - 1 :]
            ranks_N = np.minimum(np.searchsorted(numbers_G, numbers_N), len(numbers_G) - 1)
            ranks_N = np.where((contexts_N >= 0) & (numbers_G[ranks_N] == numbers_N), ranks_N, -1)
            highest_N = lower_N.copy()
            highest_N[k - 1 :] = highest.interpolated(contexts_N, ranks_N, lower_N[k - 1 :])
            lower_N[k - 1 :] = lower.interpolated(contexts_N, ranks_N, lower_N[k - 1 :])
            nats_KN[k - 1] = -np.log(highest_N)
        return nats_KN


def discounts(counts_G: Ints) -> Floats:
    """D of a count of 0, 1, 2 and 3 or more, at least MIN_DISCOUNT and at most the count (Chen & Goodman, eq. 26)."""
    n = np.bincount(counts_G[counts_G <= 4], minlength=5).astype(float)
    if not n[1:5].all():
        return np.array([0.0, *[FALLBACK_DISCOUNT] * 3])
    y = n[1] / (n[1] + 2 * n[2])
    return np.array([0.0, *(min(max(MIN_DISCOUNT, c - (c + 1) * y * n[c + 1] / n[c]), c) for c in (1, 2, 3))])


def xz_bits(train: bytes, text: bytes) -> int:
    """Bits by which the LZMA2 stream of xz grows when `text` follows the training text."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": max(4096, len(train) + len(text))}]
    before, after = (len(lzma.compress(one, lzma.FORMAT_RAW, filters=filters)) for one in (train, train + text))
    return 8 * (after - before)


class Baselines(Document):
    """Bits a character of one text by several means. N-grams score each character but the first, compressors all."""

    schema_version: Literal[1]
    num_training_chars: Annotated[int, Field(gt=0)]
    """The last ones of the training part, at most `MAX_CHARS`."""
    num_chars: Annotated[int, Field(gt=0)]
    """The first ones of the text that was scored, at most `MAX_CHARS`, without its first character."""
    ngrams: Annotated[dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]], Field(min_length=1)]
    """By order: "1-gram", "2-gram" ..."""
    compressors: dict[str, Annotated[float, Field(allow_inf_nan=False)]]

    @property
    def bits_per_char(self) -> dict[str, float]:
        """Of every baseline, by its name."""
        return self.ngrams | self.compressors

    @property
    def best_ngram(self) -> str:
        """The name of the n-gram baseline that predicts best."""
        return min(self.ngrams, key=lambda name: self.ngrams[name])

    def better_than(self, bits_per_char: float) -> str | None:
        """The best baseline, if it beats a model of `bits_per_char`."""
        best = min(self.bits_per_char, key=lambda name: self.bits_per_char[name])
        return best if self.bits_per_char[best] < bits_per_char else None

    def in_words(self) -> str:
        """The best n-gram and all compressors: `6-gram 2.1034, xz 2.8512`."""
        return ", ".join(f"{name} {self.bits_per_char[name]:.4f}" for name in (self.best_ngram, *self.compressors))

    def verdict(self, bits_per_char: float) -> str:
        """What predicts the text better than a model of `bits_per_char`; empty if nothing does."""
        if (better := self.better_than(bits_per_char)) is None:
            return ""
        figures = f"{self.bits_per_char[better]:.4f} against {bits_per_char:.4f} bits/char"
        return f"{better} predicts this text better than the model, with {figures}"


def measure_baselines(train: str, text: str) -> Baselines:
    """Measure all baselines on `text`, of at least 2 characters, after they have seen `train`."""
    train, text = train[-MAX_CHARS:], text[:MAX_CHARS]
    vocab = Vocab.of(train + text)
    nats_K = NGramModel(vocab.encode(train), len(vocab)).nats(vocab.encode(text))
    num_chars = len(text) - 1
    return Baselines(
        schema_version=1,
        num_training_chars=len(train),
        num_chars=num_chars,
        ngrams={f"{k}-gram": round(nats / num_chars / math.log(2), DIGITS) for k, nats in enumerate(nats_K, 1)},
        compressors={"xz": round(xz_bits(train.encode(), text.encode()) / len(text), DIGITS)},
    )


read_baselines = partial(read_document, kind=Baselines, what="baselines in bits a character", stage="evaluate")
