"""Copied spans are those that a naive search finds."""

from hypothesis import given
from hypothesis import strategies as st

from charlstm.evaluation.text_statistics import Span, copied_spans, covered


def naive(train: str, text: str, min_len: int) -> list[Span]:
    spans, end = [], 0
    for start in range(len(text)):
        length = 0
        while start + length < len(text) and text[start : start + length + 1] in train:
            length += 1
        if length >= min_len and start + length > end:
            piece = text[start : start + length]
            num_times = sum(train.startswith(piece, at) for at in range(len(train)))
            spans.append(Span(start, length, train.index(piece), num_times))
            end = start + length
    return spans


few = st.text("ab", max_size=60)
pieces = st.lists(st.sampled_from(["a", "ab", "abc", "aaaaaaaa", "abcabcabc", "xyz", "\n"]), max_size=12).map("".join)


@given(few | pieces, st.lists(few | pieces, max_size=3), st.integers(1, 13))
def test_they_are_those_of_a_naive_search(train: str, texts: list[str], min_len: int) -> None:
    assert copied_spans(train, texts, min_len) == [naive(train, text, min_len) for text in texts]


def test_spans_that_overlap_count_once() -> None:
    assert covered([Span(0, 10, 5, 1), Span(8, 10, 50, 1), Span(30, 4, 0, 1)]) == 22
    assert covered([]) == 0
