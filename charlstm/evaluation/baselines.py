"""What a text costs without a network, in bits a character: n-grams and xz, which have seen the training text.

The n-grams have interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998, Harvard TR-10-98, section 3).
For a character w after the context h of k - 1 characters:

    p_k(w | h) = (c(hw) - D(c(hw))) / c(h)  +  Σ_w' D(c(hw')) / c(h) · p_{k-1}(w | h without its first character)

At the highest order, c is how often the k-gram occurs; below it, the number of distinct characters before it. Below
order 1 is the uniform distribution. After a context that training never saw, p_k is p_{k-1}.
Shapes: N characters of the text, M of training and text together, G distinct k-grams of both, K orders.
"""

import lzma
import math
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from charlstm.evaluation.results import Count, Document, Number, read_document
from charlstm.text.vocabulary import Ids, Vocab

MIN_DISCOUNT = 0.05  # without any, what training has not after a context would be impossible
BASELINES = "baselines.json"
MAX_CHARS = 10_000_000  # of each text: bounds time, and memory of some 100 bytes each
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def ngram_nats(train: Ids, text: Ids, vocab_size: int, max_order: int = 6) -> Floats:
    """Nats of each character of a text (K, N), a row for each order from 1; the first ones have shorter contexts."""
    # A k-gram's number is the rank of its context times V plus its last character: 64 bits for any alphabet.
    ids_M = np.concatenate([train, text]).astype(np.int64)
    numbers_G, ranks_M = np.unique(
        ids_M, return_inverse=True
    )  # ranks of the k-grams that start at each place
    lower_N = np.full(len(text), 1 / vocab_size)  # p_{k-1} of each character
    rows = []
    for k in range(1, min(max_order, len(train) - 1) + 1):
        counts_G = np.bincount(ranks_M[: len(train) - k + 1], minlength=len(numbers_G))
        longer_G, longer_ranks_M = np.unique(
            ranks_M[:-1] * vocab_size + ids_M[k:], return_inverse=True
        )
        place_G = np.full(
            len(longer_G), -1
        )  # in training; what precedes a k-gram is known from the longer ones
        place_G[longer_ranks_M[: len(train) - k]] = np.arange(len(train) - k)
        preceding_G = np.bincount(ranks_M[place_G[place_G >= 0] + 1], minlength=len(numbers_G))
        contexts_G, grams_N = numbers_G // vocab_size, ranks_M[len(train) :]
        highest_N = np.append(
            lower_N[: k - 1], _interpolated(counts_G, contexts_G, grams_N, lower_N[k - 1 :])
        )
        lower_N[k - 1 :] = _interpolated(preceding_G, contexts_G, grams_N, lower_N[k - 1 :])
        rows.append(-np.log(highest_N))
        numbers_G, ranks_M = longer_G, longer_ranks_M
    return np.stack(rows)


def _interpolated(counts_G: Ints, contexts_G: Ints, grams_N: Ints, lower_N: Floats) -> Floats:
    """p_k of the last character of each k-gram, from one kind of count."""
    discount_G = discounts(counts_G)[np.minimum(counts_G, 3)]
    contexts_N = contexts_G[grams_N]
    total_N = np.bincount(contexts_G, counts_G)[contexts_N]
    freed_N = np.bincount(contexts_G, discount_G)[
        contexts_N
    ]  # what the discounts leave to the order below
    probabilities_N = ((counts_G - discount_G)[grams_N] + freed_N * lower_N) / np.maximum(
        total_N, 1
    )
    return np.where(total_N > 0, probabilities_N, lower_N)


def discounts(counts_G: Ints) -> Floats:
    """D of a count of 0, 1, 2 and 3 or more, at least MIN_DISCOUNT and at most the count (Chen & Goodman, eq. 26)."""
    n = np.bincount(counts_G[counts_G <= 4], minlength=5).astype(float)
    if not n[1:5].all():
        return np.array([0.0, 0.5, 0.5, 0.5])  # too few k-grams have small counts to estimate it
    y = n[1] / (n[1] + 2 * n[2])
    return np.array(
        [0.0, *(min(max(MIN_DISCOUNT, c - (c + 1) * y * n[c + 1] / n[c]), c) for c in (1, 2, 3))]
    )


def xz_bits(train: bytes, text: bytes) -> int:
    """Bits by which the LZMA2 stream of xz grows when `text` follows the training text."""
    filters = [
        {"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": max(4096, len(train) + len(text))}
    ]
    before, after = (
        len(lzma.compress(one, lzma.FORMAT_RAW, filters=filters)) for one in (train, train + text)
    )
    return 8 * (after - before)


MAX_DRAW_BITS = 0.01  # bits a character: what is nearer is called a draw


class Baselines(Document):
    """Bits a character of one text by several means. N-grams score each character but the first, compressors all."""

    schema_version: Literal[1]
    num_training_chars: Count  # the last ones of the training part
    num_chars: Count  # the first ones of the text that was scored, without its first character
    ngrams: dict[str, Number]  # "1-gram", "2-gram" ...
    compressors: dict[str, Number]

    @property
    def best_ngram(self) -> str:
        """The name of the n-gram that predicts best."""
        return min(self.ngrams, key=self.ngrams.__getitem__)

    @property
    def bits_per_char(self) -> dict[str, float]:
        """Of every baseline, by its name."""
        return self.ngrams | self.compressors

    def in_words(self) -> str:
        """The best n-gram and all compressors: `a 6-gram gives 2.1034, xz 2.8512`."""
        others = "".join(f", {name} {bits:.4f}" for name, bits in self.compressors.items())
        return f"a {self.best_ngram} gives {self.ngrams[self.best_ngram]:.4f}{others}"

    def verdict(self, bits_per_char: float) -> str:
        """Say whether a model of `bits_per_char` predicts the text better than the best baseline, or alike."""
        name, bits = min(self.bits_per_char.items(), key=lambda item: item[1])
        best = f"a {name}" if name in self.ngrams else name
        figures = f"{bits_per_char:.4f} against {bits:.4f} bits/char"
        if abs(bits - bits_per_char) <= MAX_DRAW_BITS:
            return f"a draw: the model and {best} predict this text alike, {figures}"
        if bits_per_char < bits:
            return f"the model predicts this text better than {best}, {figures}"
        return f"{best} predicts this text better than the model: the model has {figures}"

    @property
    def is_of_repetitions(self) -> bool:
        """Whether compression finds long passages that occurred before: it needs half the bits of n-grams."""
        return min(self.compressors.values()) < min(self.ngrams.values()) / 2

    def is_beaten_by(self, bits_per_char: float) -> bool:
        """Whether a model of `bits_per_char` is better than every baseline, and by more than a draw."""
        return bits_per_char < min(self.bits_per_char.values()) - MAX_DRAW_BITS


def measure_baselines(train: str, text: str) -> Baselines:
    """Measure all baselines on `text`, of at least 2 characters, after they have seen `train`."""
    train, text = train[-MAX_CHARS:], text[:MAX_CHARS]
    vocab = Vocab.of(train + text)
    nats_KN = ngram_nats(vocab.encode(train), vocab.encode(text), len(vocab))[:, 1:]
    bits_K = [math.fsum(nats_N) / (len(text) - 1) / math.log(2) for nats_N in nats_KN]
    return Baselines(
        schema_version=1,
        num_training_chars=len(train),
        num_chars=len(text) - 1,
        ngrams={f"{order}-gram": round(bits, 6) for order, bits in enumerate(bits_K, 1)},
        compressors={"xz": round(xz_bits(train.encode(), text.encode()) / len(text), 6)},
    )


read_baselines = partial(
    read_document, kind=Baselines, what="baselines in bits a character", stage="evaluate"
)
