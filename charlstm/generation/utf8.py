"""Which byte may follow in UTF-8, so that texts of bytes always decode: no surrogates, no overlong forms.

An automaton over the well-formed byte sequences of the Unicode Standard (table 3-7). Its states say what is due:
nothing; 1, 2 or 3 continuation bytes; or a second byte after E0, ED, F0 or F4, which have narrower ranges.
Shapes: R rows, S states, V bytes.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

NUM_BYTES: Final = 256
START, ONE, TWO, THREE, AFTER_E0, AFTER_ED, AFTER_F0, AFTER_F4 = range(8)
# From a state, by a byte of the range (both ends included), to a state.
TRANSITIONS: Final = (
    (START, 0x00, 0x7F, START),
    (START, 0xC2, 0xDF, ONE),
    (START, 0xE0, 0xE0, AFTER_E0),
    (START, 0xE1, 0xEC, TWO),
    (START, 0xED, 0xED, AFTER_ED),
    (START, 0xEE, 0xEF, TWO),
    (START, 0xF0, 0xF0, AFTER_F0),
    (START, 0xF1, 0xF3, THREE),
    (START, 0xF4, 0xF4, AFTER_F4),
    (ONE, 0x80, 0xBF, START),
    (TWO, 0x80, 0xBF, ONE),
    (THREE, 0x80, 0xBF, TWO),
    (AFTER_E0, 0xA0, 0xBF, ONE),
    (AFTER_ED, 0x80, 0x9F, ONE),
    (AFTER_F0, 0x90, 0xBF, TWO),
    (AFTER_F4, 0x80, 0x8F, TWO),
)


def _next_states() -> NDArray[np.int64]:
    states_SV = np.full((8, NUM_BYTES), -1)
    for before, first, last, after in TRANSITIONS:
        states_SV[before, first : last + 1] = after
    return states_SV


NEXT: Final = _next_states()  # (S, V): the state after a byte; -1 where the byte is not allowed
ALLOWED: Final = NEXT >= 0  # (S, V)


def states_after(beginnings: Sequence[bytes]) -> NDArray[np.int64]:
    """The states (R,) after the first bytes of a character each, or after none."""
    return np.array([_state_after(one) for one in beginnings], np.int64)


def _state_after(beginning: bytes) -> int:
    state = START
    for byte in beginning:
        state = int(NEXT[state, byte])
    return state
