"""Bytes as characters, for what counts in those."""

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
