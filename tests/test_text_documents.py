"""Where documents begin, against a search by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import VocabularyError
from charlstm.text import documents
from charlstm.text.documents import check_occurs, document_starts, separator_ids
from charlstm.text.vocabulary import Vocab

VOCAB = Vocab("\nabc")


@given(
    text=st.text("ab", min_size=1, max_size=60),
    separator=st.text("ab", min_size=1, max_size=4),
    seed=st.integers(0, 100),
)
def test_every_occurrence_begins_a_document_overlapping_ones_too(text: str, separator: str, seed: int) -> None:
    ids = VOCAB.encode(text)
    positions = np.random.default_rng(seed).integers(0, len(text), (3, 7))  # in any order, some twice
    found = document_starts(ids, positions, VOCAB.encode(separator))
    assert found.tolist() == [[text[at:].startswith(separator) for at in row] for row in positions]


def test_a_separator_has_ids_or_one_clear_line() -> None:
    assert separator_ids(None, VOCAB) is None
    found = separator_ids("\na", VOCAB)
    assert found is not None and found.tolist() == [0, 1]
    with pytest.raises(VocabularyError) as caught:
        separator_ids("\n\x00", VOCAB)
    assert str(caught.value) == (
        "split.document_separator: '\\n\\x00' stands nowhere in the training part: the vocabulary lacks '\\x00' "
        "(U+0000, 1 times); give the text with which each document begins, or null"
    )


def test_a_separator_that_never_occurs_is_refused_in_a_text_that_was_searched_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(documents, "CHUNK", 7)
    train_ids, separator = VOCAB.encode("ab" * 10 + "cab"), VOCAB.encode("bc")
    assert check_occurs("bc", separator, train_ids)  # its place is a chunk's end
    with pytest.raises(VocabularyError, match="^split.document_separator: 'ca' stands nowhere in the training part; "):
        check_occurs("ca", VOCAB.encode("ca"), train_ids[:-2])
    monkeypatch.setattr(documents, "MAX_SEARCHED", 19)
    assert not check_occurs("bc", separator, train_ids)
