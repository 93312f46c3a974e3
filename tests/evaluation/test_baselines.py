"""Baselines as a document, and what they say of a model."""

import math
from pathlib import Path

import numpy as np
import pytest

from charlstm.errors import CharlstmError
from charlstm.evaluation import baselines as module
from charlstm.evaluation.baselines import NGramModel, measure_baselines, read_baselines
from charlstm.evaluation.documents import write_document
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


def test_what_is_said_of_a_model() -> None:
    found = measure_baselines(TRAIN, TEXT).model_copy(
        update={"ngrams": {"1-gram": 4.0, "2-gram": 2.0}, "compressors": {"xz": 3.0}}
    )
    assert found.in_words() == "2-gram 2.0000, xz 3.0000"
    assert found.verdict(2.0) == "" and found.better_than(2.0) is None
    assert found.verdict(2.1) == "2-gram predicts this text better than the model, with 2.0000 against 2.1000 bits/char"


def test_long_texts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CHARS", 100)
    found = measure_baselines(TRAIN, TRAIN)
    assert (found.num_training_chars, found.num_chars) == (100, 99)
    assert found == measure_baselines(TRAIN[-100:], TRAIN[:100])


def test_written_and_read_again(tmp_path: Path) -> None:
    found, path = measure_baselines(TRAIN, TEXT), tmp_path / "baselines.json"
    with pytest.raises(CharlstmError, match="cannot read baselines .*: No such file or directory; `dvc repro evaluate"):
        read_baselines(path)
    write_document(path, found, indent=2)
    assert read_baselines(path) == found
