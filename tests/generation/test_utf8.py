"""Texts of bytes always decode, are what they are in any batch and by any engine, and count in characters."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charlstm.generation.kernels import Rules
from charlstm.generation.quantized import quantize
from charlstm.generation.random_numbers import uniforms
from charlstm.generation.sampler import Request, Sampler
from charlstm.generation.stepper import Stepper
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import ModelShape
from charlstm.sampling import Sampling
from charlstm.text.byte_vocabulary import ByteVocab
from charlstm.text.utf8 import NEXT, START, utf8_state
from charlstm.text.vocabulary import Decoder
from tests.support import reference_sampler as reference

VOCAB = ByteVocab()
RULES = [
    Sampling(temperature=1.0),
    Sampling(temperature=0),
    Sampling(temperature=0.7, top_k=3),
    Sampling(temperature=1.0, top_k=100),  # more than are allowed within a character
    Sampling(temperature=0.9, top_p=0.8),
    Sampling(temperature=1.2, min_p=0.05),
    Sampling(temperature=0.8, top_k=200, top_p=0.9, min_p=0.01),
    Sampling(temperature=1e300),  # all are alike
    Sampling(temperature=1e-300),
]
PROMPTS = ["a", "雪\n", "\U0001f600é", "prompt of more"]


@pytest.fixture(scope="module")
def model() -> CharLSTM:
    torch.manual_seed(0)
    model = CharLSTM(ModelShape(256, 6, 16, 2, 12), "gates").eval().requires_grad_(False)
    for weight in model.parameters():
        weight.mul_(2)
    return model


def request(number: int) -> Request:
    return Request(
        PROMPTS[number % 4],
        RULES[number % len(RULES)]._replace(num_chars=1 + number % 37, seed=number // 3),
        number=number % 3,
    )


def test_every_character_is_allowed_and_nothing_else() -> None:
    """All 1,112,064; and of all sequences of two bytes, those that begin some text, as Python's own decoder has it."""
    codes = [*range(0xD800), *range(0xE000, 0x110000)]
    states = np.full(len(codes), START)
    content = "".join(map(chr, codes)).encode()
    starts = np.flatnonzero((np.frombuffer(content, np.uint8) & 0xC0) != 0x80)
    lengths = np.diff([*starts, len(content)])
    for position in range(4):
        has = lengths > position
        states[has] = NEXT[states[has], np.frombuffer(content, np.uint8)[starts[has] + position]]
        assert (states >= 0).all()
    assert (states == START).all()

    rests = [
        b"",
        b"\x80",
        b"\x80\x80",
        b"\x80\x80\x80",
        b"\xa0\x80",
        b"\x90\x80\x80",
    ]  # one of them completes any
    for pair in (bytes([first, second]) for first in range(256) for second in range(256)):
        state = NEXT[START, pair[0]]
        assert (state >= 0 and NEXT[state, pair[1]] >= 0) == any(
            _decodes(pair + rest) for rest in rests
        ), pair


def _decodes(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(0, 2**32))
def test_bytes_are_those_of_the_equations(model: CharLSTM, num_rows: int, seed: int) -> None:
    quantized, chance = quantize(model), np.random.default_rng(seed)
    stepper, rules = (
        Stepper(quantized),
        Rules.of([RULES[one] for one in chance.integers(len(RULES), size=num_rows)], 256),
    )
    uniforms_RT = uniforms(chance.integers(2**63, size=num_rows).astype(np.uint64), 5, 17)
    begun = [b"", b"\xe0", b"\xf0\x90", b"\xf4", b"\xed", b"\xc3"]
    beginnings = [begun[at] for at in chance.integers(len(begun), size=num_rows)]
    utf8_R = np.array([utf8_state(one) for one in beginnings])
    before = stepper.read(chance.integers(256, size=(num_rows, 3)), stepper.zero_state(num_rows))
    ids, after = stepper.write(before, rules, uniforms_RT, utf8_R)
    same_ids, same_after = reference.write(quantized, before, rules, uniforms_RT, utf8_R)
    np.testing.assert_array_equal(ids, same_ids)
    np.testing.assert_array_equal(after.hidden_RLH, same_after.hidden_RLH)
    np.testing.assert_array_equal(after.cell_RLH, same_after.cell_RLH)
    for beginning, row in zip(beginnings, ids.tolist(), strict=True):
        Decoder(VOCAB).decode([*beginning, *row])


@pytest.mark.parametrize("num_rows", [1, 40, 300])
def test_a_text_of_bytes_is_the_same_in_any_batch_and_has_its_characters(
    model: CharLSTM, num_rows: int
) -> None:
    sampler, requests = Sampler(model, VOCAB), [request(number) for number in range(num_rows)]
    order = random.Random(0).sample(range(num_rows), num_rows)
    together, shuffled = (
        sampler.generate(requests),
        sampler.generate([requests[number] for number in order]),
    )
    assert [together[number].text for number in order] == [one.text for one in shuffled]
    for number, found in list(enumerate(together))[:40]:
        (alone,) = sampler.generate([requests[number]])
        assert alone.text == found.text and len(found.text) == requests[number].sampling.num_chars
        assert torch.equal(alone.state.hidden, found.state.hidden) and torch.equal(
            alone.state.cell, found.state.cell
        )
        assert "".join(sampler.stream(requests[number])) == found.text
    assert any(len(one.text.encode()) > 2 * len(one.text) for one in together) or num_rows == 1
