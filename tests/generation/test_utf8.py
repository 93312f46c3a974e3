"""Texts of bytes always decode, do not depend on the batch, and are counted in characters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charlstm.generation.kernels import Rules
from charlstm.generation.quantized import quantize
from charlstm.generation.sampler import uniforms
from charlstm.generation.stepper import Stepper
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import ModelShape
from charlstm.text.utf8 import NEXT, START, utf8_state
from charlstm.text.vocabulary import ByteVocab, Decoder
from tests.support import reference_sampler as reference
from tests.support.models import random_model
from tests.support.reference_sampler import RULES

VOCAB = ByteVocab()


@pytest.fixture(scope="module")
def model() -> CharLSTM:
    return random_model(ModelShape(256, 6, 16, 2, 12), factor=2)


def test_every_character_is_allowed_and_nothing_else() -> None:
    """Check all 1,112,064 characters, and all pairs of bytes against Python's decoder."""
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

    # One of these sequences completes any start of a character.
    rests = [b"", b"\x80", b"\x80\x80", b"\x80\x80\x80", b"\xa0\x80", b"\x90\x80\x80"]
    for pair in (bytes([first, second]) for first in range(256) for second in range(256)):
        state = NEXT[START, pair[0]]
        is_allowed = state >= 0 and NEXT[state, pair[1]] >= 0
        assert is_allowed == any(_decodes(pair + rest) for rest in rests), pair


def _decodes(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(0, 2**32))
def test_bytes_are_those_of_the_equations(model: CharLSTM, num_rows: int, seed: int) -> None:
    quantized = quantize(model)
    stepper = Stepper(quantized)
    chance = np.random.default_rng(seed)
    chosen = [RULES[one] for one in chance.integers(len(RULES), size=num_rows)]
    rules = Rules.of(chosen, 256)
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
