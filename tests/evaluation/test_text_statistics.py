"""Statistics of texts against plain counts, and losses of texts against reading them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charlstm.evaluation.text_statistics import (
    Measured,
    PromptedText,
    Span,
    copied_spans,
    figures,
    held_out,
    loss_of,
    measure,
    words_of,
)
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.protocols import LossSum
from charlstm.model.shape import ModelShape
from charlstm.text.vocabulary import ByteVocab, Vocab
from tests.support.models import random_model

VOCAB = Vocab.of("abcdefghij \nÉé")
WORDS = [
    # The last word may be cut.
    ("\n", "The end, the END is near", ["the", "end", "the", "end", "is"]),
    # The prompt began the first word.
    ("To b", "e or not.", ["or", "not"]),
    ("To be", " or not.", ["or", "not"]),
    ("x", "", []),
    ("x", "y", []),
    (" ", "straße, Ünïcode_1 日本 ", ["strasse", "ünïcode_1", "日本"]),
    # Marks are parts of words.
    (" ", "हिन्दी में בְּרֵאשִׁית می\u200cروم ", ["हिन्दी", "में", "בְּרֵאשִׁית", "می\u200cروم"]),
]


@pytest.fixture(scope="module")
def model() -> CharLSTM:
    return random_model(ModelShape(len(VOCAB), 6, 8, 2, 0))


@pytest.mark.parametrize(("prompt", "text", "words"), WORDS)
def test_words_are_whole_and_without_case(prompt: str, text: str, words: list[str]) -> None:
    assert words_of(prompt, text) == words


def test_known_words_are_those_of_the_training_text(model: CharLSTM) -> None:
    texts = [PromptedText("a", " bed bÉa beg "), PromptedText("a", "")]
    found = measure(texts, "a bed, béa\nbegi", model, VOCAB)
    assert [(one.words, one.num_known) for one in found] == [(["bed", "béa", "beg"], 2), ([], 0)]


@pytest.mark.parametrize(
    ("prompt", "text"), [("ab", "cdefg"), ("b", "a"), ("bé", "fffff"), ("a", "")]
)
def test_a_loss_is_that_of_reading_on_after_the_prompt(
    model: CharLSTM, prompt: str, text: str
) -> None:
    loss = loss_of(PromptedText(prompt, text), model, VOCAB)
    state = model.zero_state(1)
    nats = 0.0
    for index in VOCAB.encode(prompt):
        logits_BTV, state = model(torch.tensor([[int(index)]]), state)
    for index in VOCAB.encode(text):
        nats -= float(logits_BTV[0, 0].log_softmax(0)[int(index)])
        logits_BTV, state = model(torch.tensor([[int(index)]]), state)
    assert loss.num_chars == len(text) and loss.nats == pytest.approx(nats, rel=1e-5)


def test_of_bytes_a_loss_and_all_counts_are_of_characters() -> None:
    model = random_model(ModelShape(256, 5, 12, 1, 0))
    one = PromptedText("é", "雪 é雪, x" * 3)
    (found,) = measure([one], "é雪, x雪 é雪, x雪 " * 2, model, ByteVocab())
    assert found.loss.num_chars == 21 and found.loss.nats > 30 and found.words[:2] == ["é雪", "x雪"]
    assert found.spans[0] == Span(0, 21, 5, 1)


def test_held_out_passages_are_as_long_and_lie_evenly() -> None:
    val = "".join(map(chr, range(100)))
    long = PromptedText("a", "b" * 9)
    found = held_out(val, [long, PromptedText("aa", "b" * 8), long, long])
    assert [(len(one.prompt), len(one.text)) for one in found] == [(1, 9), (2, 8), (1, 9), (1, 9)]
    assert [ord(one.prompt[0]) for one in found] == [11, 33, 56, 78]
    assert "".join(found[1]) == val[33:43]


def test_figures_add_up_before_they_divide() -> None:
    spans = [Span(0, 35, 7, 2), Span(30, 40, 0, 1)]  # they overlap
    first = Measured(["a", "b", "a", "b"], 3, spans, LossSum(80.0, 50))
    second = Measured(["a", "b"], 0, [], LossSum(20.0, 50))
    both = figures([first, second], 0.5)
    assert (both.temperature, both.num_texts, both.num_chars) == (0.5, 2, 100)
    assert (both.longest_copied, both.known_words, both.nats_per_char) == (40, 0.5, 1.0)
    assert (both.distinct_bigrams, both.copied) == (0.75, 0.7)


def test_what_stands_there_often_is_a_phrase_and_no_copy() -> None:
    """A copy has 30 characters and stands in the training text up to twice.

    A phrase has 20 characters and stands there more often.
    """
    lengths_and_times = [(30, 1), (29, 1), (45, 3), (20, 9), (19, 9)]
    spans = [
        Span(40 * number, length, 0, num_times)
        for number, (length, num_times) in enumerate(lengths_and_times)
    ]
    found = figures([Measured([], 0, spans, LossSum(1.0, 200))], None)
    assert (found.copied, found.phrases, found.longest_copied) == (0.15, 0.3, 30)
    assert [one.is_copied for one in spans] == [True, False, False, False, False]


def naive(train: str, text: str, min_len: int) -> list[Span]:
    spans: list[Span] = []
    end = 0
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
pieces = st.lists(
    st.sampled_from(["a", "ab", "abc", "aaaaaaaa", "abcabcabc", "xyz", "\n"]), max_size=12
).map("".join)


@given(few | pieces, st.lists(few | pieces, max_size=3), st.integers(1, 13))
def test_copied_spans_are_those_of_a_naive_search(
    train: str, texts: list[str], min_len: int
) -> None:
    assert copied_spans(train, texts, min_len) == [naive(train, text, min_len) for text in texts]
