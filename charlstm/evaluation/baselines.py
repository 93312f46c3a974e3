"""Baselines without a neural network: the bits per character of n-grams and of xz.

Both know the training text. The n-grams use interpolated modified Kneser-Ney smoothing (Chen &
Goodman 1998, Harvard TR-10-98, section 3). For a character w after the context h of k - 1
characters, where h' is h without its first character:

    p_k(w | h) = (c(hw) - D(c(hw))) / c(h)  +  Σ_w' D(c(hw')) / c(h) · p_{k-1}(w | h')

At the highest order, c is the number of occurrences of a k-gram. At lower orders, c is the number
of distinct characters before the k-gram. Order 0 is the uniform distribution. If a context does not
occur in the training text, p_k is p_{k-1}.

Shapes: N characters in the scored text, M characters in the training text and the scored text
together, G distinct k-grams in both, K orders.
"""

import lzma
import math
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from charlstm.evaluation.results import Count, Document, Number, read_document
from charlstm.text.vocabulary import Ids, Vocab

BASELINES = "baselines.json"
MAX_CHARS = 10_000_000  # per text, to limit time and memory (100 bytes per character)
MIN_DISCOUNT = 0.05  # if discounts were 0, characters unseen after a context would be impossible
MAX_DRAW_BITS = 0.01  # bits per character; two losses that differ by at most this much are a tie
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Baselines(Document):
    """Bits per character that several baselines need for one text.

    N-grams score every character except the first. Compressors encode all characters.
    """

    schema_version: Literal[1]
    num_training_chars: Count
    """Number of characters that were used from the end of the training text."""
    num_chars: Count
    """Number of scored characters at the beginning of the text."""
    ngrams: dict[str, Number]
    """Bits per character by n-gram order: "1-gram", "2-gram" and so on."""
    compressors: dict[str, Number]

    @property
    def best_ngram(self) -> str:
        """Name of the n-gram with the lowest loss, such as `6-gram`."""
        return min(self.ngrams, key=self.ngrams.__getitem__)

    @property
    def bits_per_char(self) -> dict[str, float]:
        """Bits per character of each baseline, keyed by the baseline's name."""
        return self.ngrams | self.compressors

    def in_words(self) -> str:
        """Describe the best n-gram and every compressor: `a 6-gram gives 2.1034, xz 2.8512`."""
        others = "".join(f", {name} {bits:.4f}" for name, bits in self.compressors.items())
        return f"a {self.best_ngram} gives {self.ngrams[self.best_ngram]:.4f}{others}"

    def verdict(self, bits_per_char: float) -> str:
        """Say in one sentence how a model's loss `bits_per_char` compares to the best baseline."""
        name, bits = min(self.bits_per_char.items(), key=lambda item: item[1])
        best = f"a {name}" if name in self.ngrams else name
        figures = f"{bits_per_char:.4f} against {bits:.4f} bits/char"
        if abs(bits - bits_per_char) <= MAX_DRAW_BITS:
            return f"a tie: the model and {best} predict this text equally well, {figures}"
        if bits_per_char < bits:
            return f"the model predicts this text better than {best}, {figures}"
        return f"{best} predicts this text better than the model: the model has {figures}"

    @property
    def is_of_repetitions(self) -> bool:
        """True if the text is so repetitive that xz needs less than half the bits of any n-gram."""
        return min(self.compressors.values()) < min(self.ngrams.values()) / 2

    def is_beaten_by(self, bits_per_char: float) -> bool:
        """Return whether the loss `bits_per_char` is clearly lower than every baseline's loss."""
        return bits_per_char < min(self.bits_per_char.values()) - MAX_DRAW_BITS


read_baselines = partial(
    read_document, kind=Baselines, what="the baselines in bits per character", stage="evaluate"
)


def measure_baselines(train: str, text: str) -> Baselines:
    """Fit all baselines to `train`. Return their losses on `text` (at least 2 characters)."""
    train = train[-MAX_CHARS:]
    text = text[:MAX_CHARS]
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


def ngram_nats(train: Ids, text: Ids, vocab_size: int, max_order: int = 6) -> Floats:
    """Return each character's loss in nats (K, N), with a row for each n-gram order from 1 up.

    At the beginning of the text, contexts are shorter.
    """
    # A k-gram's number is V times the rank of its first k - 1 ids, plus the k-gram's last id.
    # For any alphabet, the number of a k-gram fits into 64 bits.
    ids_M = np.concatenate([train, text]).astype(np.int64)
    # `ranks_M` holds the rank of the k-gram that starts at each position.
    numbers_G, ranks_M = np.unique(ids_M, return_inverse=True)
    lower_N = np.full(len(text), 1 / vocab_size)  # p_{k-1} of each character in the text
    rows = []
    for k in range(1, min(max_order, len(train) - 1) + 1):
        counts_G = np.bincount(ranks_M[: len(train) - k + 1], minlength=len(numbers_G))
        longer_M = ranks_M[:-1] * vocab_size + ids_M[k:]
        longer_G, longer_ranks_M = np.unique(longer_M, return_inverse=True)

        # Count the distinct characters that precede each k-gram in the training text.
        # `place_G` holds a position of each (k + 1)-gram, or -1 if the training text lacks it.
        place_G = np.full(len(longer_G), -1)
        place_G[longer_ranks_M[: len(train) - k]] = np.arange(len(train) - k)
        preceding_G = np.bincount(ranks_M[place_G[place_G >= 0] + 1], minlength=len(numbers_G))

        contexts_G = numbers_G // vocab_size
        grams_N = ranks_M[len(train) :]
        highest_N = _interpolated(counts_G, contexts_G, grams_N, lower_N[k - 1 :])
        rows.append(-np.log(np.append(lower_N[: k - 1], highest_N)))
        lower_N[k - 1 :] = _interpolated(preceding_G, contexts_G, grams_N, lower_N[k - 1 :])
        numbers_G = longer_G
        ranks_M = longer_ranks_M
    return np.stack(rows)


def _interpolated(counts_G: Ints, contexts_G: Ints, grams_N: Ints, lower_N: Floats) -> Floats:
    """Return the probability p_k of each k-gram's last character, from the k-gram counts."""
    discount_G = discounts(counts_G)[np.minimum(counts_G, 3)]
    contexts_N = contexts_G[grams_N]
    total_N = np.bincount(contexts_G, counts_G)[contexts_N]
    # The sum of a context's discounts becomes the weight of the next lower order.
    freed_N = np.bincount(contexts_G, discount_G)[contexts_N]
    own_N = (counts_G - discount_G)[grams_N]
    return np.where(total_N > 0, (own_N + freed_N * lower_N) / np.maximum(total_N, 1), lower_N)


def discounts(counts_G: Ints) -> Floats:
    """Return the discounts for counts of 0, 1, 2 and 3 or more (Chen & Goodman 1998, equation 26).

    Above count 0, each discount is at least `MIN_DISCOUNT` and at most its count.
    """
    n = np.bincount(counts_G[counts_G <= 4], minlength=5).astype(float)
    if not n[1:5].all():
        return np.array([0.0, 0.5, 0.5, 0.5])  # there are too few small counts for an estimate
    y = n[1] / (n[1] + 2 * n[2])
    estimates = (c - (c + 1) * y * n[c + 1] / n[c] for c in (1, 2, 3))
    return np.array([0.0, *np.clip([*estimates], MIN_DISCOUNT, [1, 2, 3])])


def xz_bits(train: bytes, text: bytes) -> int:
    """Return by how many bits the LZMA2 stream grows when `text` is appended to `train`."""
    window = max(4096, len(train) + len(text))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": window}]
    before, after = (
        len(lzma.compress(content, lzma.FORMAT_RAW, filters=filters))
        for content in (train, train + text)
    )
    return 8 * (after - before)
