"""Labels of texts against labels by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.interpretation.labels import Label, labels_of
from charlstm.text.vocabulary import Vocab


def labels(text: str) -> dict[str, Label]:
    vocab = Vocab.of(text)
    return {one.name: one for one in labels_of(vocab.encode(text), vocab)}


def marks(label: Label) -> str:
    assert label.is_yes_or_no
    return "".join("x" if one else "." for one in label.values_N)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("inside quotes", "a \u201cbc\u201d d", "..xxx..."),
        # An apostrophe neither opens nor closes quotes.
        ("inside quotes", "\u00abb\u00bb\u2019s", "xx..."),
        # A blank line ends an unclosed quote.
        ("inside quotes", '"a\nb\n\nc', "xxxxx.."),
        ("inside brackets", "f(a[0])b", ".xxxxx.."),
        ("speaker line", "AB:\nHi: you\nC", "xxx.........."),
        ("capital", "aBc\u00c9", ".x.x"),
        ("capitals so far", "I AM Bob", "...x...."),
        ("word start", "it is_2 \u00e9a", "x..x....x."),
        ("letter", "a1\u05d0 _", "x.x.."),
        ("digit", "a12\u0663", ".xxx"),
        ("sentence end", "No. Yes!\u3002", "..x....xx"),
    ],
)
def test_yes_or_no(name: str, text: str, expected: str) -> None:
    assert marks(labels(text)[name]) == expected


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("line position", "ab\ncd", [1, 2, 0, 1, 2]),
        ("lines since a blank line", "a\nb\n\nc\nd", [0, 1, 1, 2, 0, 0, 1, 1]),
        ("position in the name", "AB:\nc", [1, 2, 3, 0, 0]),
        ("word length", "ab c.", [1, 2, 0, 1, 0]),
        # A combining mark belongs to its word.
        ("word length", "e\u0301a", [1, 2, 3]),
        ("indentation", "  a b\n\tc", [1, 2, 2, 2, 2, 0, 1, 1]),
        ("sentence position", "ab. c", [1, 2, 0, 1, 2]),
    ],
)
def test_numbers(name: str, text: str, expected: list[int]) -> None:
    assert labels(text)[name].values_N.tolist() == expected


@given(st.text(max_size=60), st.text(min_size=1, max_size=60))
def test_labels_of_any_text_have_a_value_for_each_character(before: str, text: str) -> None:
    whole = before + text
    found = labels(whole)
    assert len(found) == 15
    assert all(one.values_N.shape == (len(whole),) for one in found.values())
