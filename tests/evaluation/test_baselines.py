"""Baselines as a document, and what they say of a model."""

import math
import random

import numpy as np

from charlstm.evaluation.baselines import NGramModel, measure_baselines, xz_bits
from charlstm.text.vocabulary import Vocab

TRAIN = "the cat sat on the mat, the dog sat on the log. Η γάτα κάθισε 😀. " * 20
TEXT = "the cat sat on the log, and the dog 😀 too.\n"


def test_the_figures_are_means_over_the_characters_scored() -> None:
    found = measure_baselines(TRAIN, TEXT)
    vocab = Vocab.of(TRAIN + TEXT)
    nats_KN = NGramModel(vocab.encode(TRAIN), len(vocab)).char_nats(vocab.encode(TEXT))
    assert found.num_chars == len(TEXT) - 1 and found.num_training_chars == len(TRAIN)
    assert list(found.bits_per_char) == [*(f"{order}-gram" for order in range(1, 7)), "xz"]
    assert np.allclose(list(found.ngrams.values()), nats_KN[:, 1:].mean(1) / math.log(2), atol=1e-6)
    assert found.ngrams["6-gram"] < found.ngrams["1-gram"]
    assert found.best_ngram == min(found.ngrams, key=lambda name: found.ngrams[name])
    worse = found.ngrams[found.best_ngram] + 1
    assert found.better_than(worse) is not None and found.better_than(0.1) is None


def test_what_a_compressor_has_seen_costs_next_to_nothing() -> None:
    seen, new = random.Random(1).randbytes(20_000), random.Random(2).randbytes(2_000)
    assert 8 * len(new) <= xz_bits(seen, new) < 8 * len(new) * 1.02
    far = seen + bytes(10_000_000)  # beyond the usual window, 8 MB
    assert xz_bits(far, seen) < 0.02 * 8 * len(seen)
