"""Bytes as characters, for what counts in those."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from charlstm.evaluation.statistics import in_characters
from charlstm.text.vocabulary import ByteVocab, Vocab

TEXTS = st.lists(st.text("aé雪\U0001f600\n", max_size=30), min_size=1, max_size=3)


@settings(max_examples=60)
@given(TEXTS)
def test_bytes_become_the_ids_of_their_characters(texts: list[str]) -> None:
    vocab = ByteVocab()
    found, parts = in_characters(vocab, ["é雪"], *(vocab.encode(text) for text in texts))
    assert [found.decode(part) for part in parts] == texts
    assert found == Vocab.of("é雪" + "".join(texts))
    assert all(part.dtype == found.dtype for part in parts)


def test_characters_stay_as_they_are() -> None:
    vocab = Vocab.of("ab")
    ids = vocab.encode("abba")
    found, (same,) = in_characters(vocab, ["unknown"], ids)
    assert found is vocab and same is ids and same.dtype == np.uint8
