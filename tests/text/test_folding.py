"""Unknown characters: an error, the nearest known ones, or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.errors import VocabularyError
from charlstm.prompts import fold, with_sign
from charlstm.text.vocabulary import UNSEEN, Vocab

PLAIN = Vocab.of("\n !'-.,abcdefghijklmnopqrstuvwxyzABDEF")
RICH = Vocab.of('\n "éeE-')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it\N{RIGHT SINGLE QUOTATION MARK}s", "it's"),
        ("\u00c9tud\u00e9", "Etude"),
        ("ZZ", "zz"),
        ("a\u2013b\u2014c", "a-b--c"),
        ("a\u00a0b\tc", "a b c"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("\ufb01n \uff41", "fin a"),
        ("stra\u00dfe \u00e6on", "strasse aeon"),
        ("so\u00adft\u200b", "soft"),
    ],
)
def test_the_nearest(text: str, expected: str) -> None:
    assert fold(text, PLAIN, "nearest").text == expected


def test_what_the_vocabulary_has_stays() -> None:
    assert fold('"\u00e9"', RICH, "nearest").text == '"\u00e9"'
    assert fold("e\u0301", RICH, "nearest").text == "\u00e9"


def test_what_was_exchanged_is_counted() -> None:
    folded = fold("\u00e9\u00e9\u2019", PLAIN, "nearest")
    assert dict(folded.replaced) == {("\u00e9", "e"): 2, ("\u2019", "'"): 1}
    assert dict(fold("a\u0416b", PLAIN, "skip").replaced) == {("\u0416", ""): 1}


def test_errors_name_the_characters() -> None:
    for unknown in ("error", "nearest"):
        with pytest.raises(VocabularyError, match="characters .*'Ж'"):
            fold("ЖaЖ", PLAIN, unknown)


def test_the_sign_for_unseen_characters_is_the_last_resort() -> None:
    vocab = Vocab.of(f"abe{UNSEEN}")
    assert fold("a\u0416\u00e9", vocab, "nearest").text == f"a{UNSEEN}e"
    assert with_sign("a\u0416\u00e9", vocab) == f"a{UNSEEN}{UNSEEN}"
    assert with_sign("\u0416", PLAIN) == "\u0416"


@given(st.text(max_size=20))
def test_whatever_comes_out_is_known(text: str) -> None:
    assert not PLAIN.unknown(fold(text, PLAIN, "skip").text)
    vocab = Vocab.of(PLAIN.characters + UNSEEN)
    folded = fold(text, vocab, "nearest")
    assert not vocab.unknown(folded.text)
    assert fold(folded.text, vocab, "nearest").text == folded.text
