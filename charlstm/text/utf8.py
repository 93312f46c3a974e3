"""Which byte may follow in UTF-8, so that texts of bytes always decode: no surrogates, no overlong forms.

An automaton over the well-formed byte sequences of the Unicode Standard (table 3-7). Its states say what is due:
nothing; 1, 2 or 3 continuation bytes; or a second byte after E0, ED, F0 or F4, which have narrower ranges.
"""

from functools import reduce

import numpy as np

START, ONE, TWO, THREE, AFTER_E0, AFTER_ED, AFTER_F0, AFTER_F4 = range(8)

# From a state, by a byte of the range (both ends included), to a state.
TRANSITIONS = (
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
NEXT = np.full(
    (8, 256), -1
)  # (states, bytes): the state after a byte; -1 where the byte is not allowed
for _before, _first, _last, _after in TRANSITIONS:
    NEXT[_before, _first : _last + 1] = _after


def utf8_state(beginning: bytes) -> int:
    """The state after the first bytes of a character, or after none."""
    return reduce(lambda state, byte: int(NEXT[state, byte]), beginning, START)
