"""Figures about texts are those of a plain count, and a text's loss is that of reading it character by character."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from charlstm.evaluation import statistics
from charlstm.evaluation.copied import Span
from charlstm.evaluation.statistics import (
    Measured,
    Passage,
    figures,
    held_out,
    is_copied,
    known_words,
    text_losses,
    words_of,
)
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.loss import LossSum
from charlstm.model.shape import ModelShape
from charlstm.text.vocabulary import Vocab

VOCAB = Vocab.of("abcdefghij \nÉé")


@pytest.fixture(scope="module")
def model() -> CharLSTM:
    torch.manual_seed(0)
    return CharLSTM(ModelShape(len(VOCAB), 6, 8, 2, 0), "gates").eval().requires_grad_(False)


def passage(prompt: str, text: str) -> Passage:
    return Passage(VOCAB.encode(prompt), VOCAB.encode(text))


@pytest.mark.parametrize(
    ("prompt", "text", "words"),
    [
        ("\n", "The end, the END is near", ["the", "end", "the", "end", "is"]),  # the last may be cut
        ("To b", "e or not.", ["or", "not"]),  # the first was begun by the prompt
        ("To be", " or not.", ["or", "not"]),
        ("x", "", []),
        ("x", "y", []),
        (" ", "straße, Ünïcode_1 日本 ", ["strasse", "ünïcode_1", "日本"]),
        (" ", "हिन्दी में בְּרֵאשִׁית می\u200cروم ", ["हिन्दी", "में", "בְּרֵאשִׁית", "می\u200cروم"]),  # marks are parts of words
    ],
)
def test_words_are_whole_and_without_case(prompt: str, text: str, words: list[str]) -> None:
    assert words_of(prompt, text) == words


@given(st.text("abé \n", max_size=60), st.sets(st.text("abé", min_size=1, max_size=5)), st.integers(1, 9))
def test_known_words_are_those_of_the_whole_text(text: str, words: set[str], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "CHARACTERS_AT_A_TIME", chunk)
        patch.setattr(statistics, "MAX_WORD_LEN", 4)
        found = known_words(words, VOCAB.encode(text), VOCAB)
    assert found == {word for word in words if len(word) <= 4 and word in text.split()}


def test_a_loss_is_that_of_reading_on_after_the_prompt(model: CharLSTM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MAX_LOGITS_PER_FORWARD", 6 * len(VOCAB))
    monkeypatch.setattr(statistics, "MAX_ROWS", 2)
    cases = [
        passage("ab", "cdefg"),
        passage("b", "a"),
        passage("ba", "gabcd"),
        passage("bé", "fffff"),
        passage("a", ""),
    ]
    losses = text_losses(model, cases)
    assert [loss.num_chars for loss in losses] == [5, 1, 5, 5, 0]
    for loss, (prompt, text) in zip(losses, cases, strict=True):
        state, nats = model.zero_state(1), 0.0
        for index in prompt:
            logits_BTV, state = model(torch.tensor([[int(index)]]), state)
        for index in text:
            nats -= float(logits_BTV[0, 0].log_softmax(0)[int(index)])
            logits_BTV, state = model(torch.tensor([[int(index)]]), state)
        assert loss.nats == pytest.approx(nats, rel=1e-5)


def test_held_out_passages_are_as_long_and_lie_evenly() -> None:
    val = np.arange(100, dtype=np.uint8)
    found = held_out(val, [passage("a", "b" * 9), passage("aa", "b" * 8), passage("a", "b" * 9), passage("a", "b" * 9)])
    assert [(len(one.prompt), len(one.text)) for one in found] == [(1, 9), (2, 8), (1, 9), (1, 9)]
    assert [int(one.prompt[0]) for one in found] == [11, 33, 56, 78]
    assert np.concatenate(found[1]).tolist() == list(range(33, 43))


def test_figures_add_up_before_they_divide() -> None:
    first = Measured(["a", "b", "a", "b"], 3, [Span(0, 35, 7, 2), Span(30, 12, 0, 1)], LossSum(80.0, 50))
    second = Measured(["a", "b"], 0, [], LossSum(20.0, 50))
    both = figures([first, second], 0.5)
    assert both.temperature == 0.5 and both.num_texts == 2 and both.num_chars == 100 and both.longest_copied == 35
    assert (both.known_words, both.distinct_bigrams, both.copied, both.nats_per_char) == (0.5, 0.75, 0.35, 1.0)


def test_what_stands_there_often_is_a_phrase_and_no_copy() -> None:
    """A copy has 30 characters and stands in the training text once or twice, a phrase has 20 and stands there more."""
    spans = [Span(0, 30, 7, 1), Span(40, 29, 0, 1), Span(80, 45, 0, 3), Span(110, 20, 0, 9), Span(140, 19, 0, 9)]
    found = figures([Measured([], 0, spans, LossSum(1.0, 200))], None)
    assert (found.copied, found.phrases, found.longest_copied) == (0.15, 0.25, 30)
    assert [is_copied(one) for one in spans] == [True, False, False, False, False]
