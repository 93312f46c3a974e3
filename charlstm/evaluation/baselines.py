"""What a text costs without a network, in bits a character: n-grams and compressors that have seen the training text."""

import math
from typing import NamedTuple

from charlstm.evaluation.compressors import xz_bits, zstd_bits
from charlstm.evaluation.ngram import NGramModel
from charlstm.text.vocabulary import Vocab


class Baseline(NamedTuple):
    """One of them. Like the protocol `stateful`, an n-gram scores each character but the first. Compressors take all."""

    name: str  # "1-gram" to "6-gram", "xz", "zstd"
    bits_per_char: float

    @property
    def is_ngram(self) -> bool:
        """Whether it predicts characters from those before, as the model does."""
        return self.name.endswith("-gram")


def measure_baselines(train: str, text: str) -> list[Baseline]:
    """All baselines on `text`, n-grams by order first. `text` has at least 2 characters."""
    vocab = Vocab.of(train + text)
    nats_KN = NGramModel(vocab.encode(train), len(vocab)).char_nats(vocab.encode(text))
    ngrams = [
        Baseline(f"{order}-gram", math.fsum(nats_N[1:]) / (len(text) - 1) / math.log(2))
        for order, nats_N in enumerate(nats_KN, 1)
    ]
    seen, own = train.encode(), text.encode()
    return [
        *ngrams,
        Baseline("xz", xz_bits(seen, own) / len(text)),
        Baseline("zstd", zstd_bits(seen, own) / len(text)),
    ]


def best_ngram(baselines: list[Baseline]) -> Baseline:
    """The order that predicts best."""
    return min((one for one in baselines if one.is_ngram), key=lambda one: one.bits_per_char)


def better_than(bits_per_char: float, baselines: list[Baseline]) -> Baseline | None:
    """The best baseline, if it beats a model of `bits_per_char`."""
    best = min(baselines, key=lambda one: one.bits_per_char)
    return best if best.bits_per_char < bits_per_char else None
