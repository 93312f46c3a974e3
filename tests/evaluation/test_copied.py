"""Copied spans are those that a naive search finds, in time and memory that repetition and length do not blow up."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.evaluation import copied
from charlstm.evaluation.copied import Span, copied_spans, covered
from charlstm.text.vocabulary import Ids


def ids(text: str, dtype: type = np.uint8) -> Ids:
    return np.array([ord(one) for one in text], dtype)


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


@given(few | pieces, st.lists(few | pieces, max_size=3), st.integers(1, 13), st.sampled_from([3, 16, 1000]))
def test_they_are_those_of_a_naive_search(train: str, texts: list[str], min_len: int, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copied, "CHUNK", chunk)
        found = copied_spans(ids(train), [ids(text) for text in texts], min_len)
    assert found == [naive(train, text, min_len) for text in texts]


def test_spans_that_overlap_count_once() -> None:
    assert covered([Span(0, 10, 5, 1), Span(8, 10, 50, 1), Span(30, 4, 0, 1)]) == 22
    assert covered([]) == 0


def test_a_text_that_repeats_itself_takes_no_longer_than_others_by_much() -> None:
    train = np.zeros(200_000, np.uint8)
    texts = [np.zeros(length, np.uint8) for length in (500, 500, 5_000, 3)]
    started = time.process_time()
    expected = [[Span(0, len(text), 0, len(train) + 1 - len(text))] if len(text) >= 12 else [] for text in texts]
    assert copied_spans(train, texts) == expected
    assert time.process_time() - started < 10
