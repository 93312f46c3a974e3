"""Unknown characters: an error, U+FFFD, or left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import TextRequestError
from charlstm.text.vocabulary import UNSEEN, Vocab
from charlstm.unknown_characters import readable, replaced

PLAIN = Vocab.of("\n !'-.,abcdefghijklmnopqrstuvwxyzABDEF")
SIGNED = Vocab.of(PLAIN.characters + UNSEEN)


def test_errors_name_the_characters() -> None:
    with pytest.raises(TextRequestError, match="prompt: the model never saw the characters .*'Ж'"):
        readable("prompt", "ЖaЖ", PLAIN)


def test_unknown_ones_are_replaced_or_left_out() -> None:
    assert readable("prompt", "a\u0416\u00e9", SIGNED, "replace") == f"a{UNSEEN}{UNSEEN}"
    assert readable("prompt", "a\u0416b", PLAIN, "replace") == "ab"


@given(st.text(max_size=20))
def test_whatever_comes_out_is_known(text: str) -> None:
    for vocab in (PLAIN, SIGNED):
        assert not vocab.unknown(replaced(text, vocab))
        assert replaced(replaced(text, vocab), vocab) == replaced(text, vocab)
