"""Drawing characters from logits by a rule and counted random numbers, the same to the bit on any machine.

e^x has no one way of rounding, so probabilities come from a table of 2^x in steps of 1/4096: each is within 0.01 % of
the exact one. All sums run in the order of the vocabulary. `compiled/kernels.py` does the same in machine code.
Shapes: R rows, V vocabulary, S states of UTF-8.
"""

import hashlib
import math
from collections.abc import Sequence
from functools import reduce
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.sampling import Sampling

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Ids = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Random numbers of a text: a function of its seed, its prompt, its number among the texts of both, what was read
# before, and the character's position; and of nothing else.
#
# They are counted, not drawn one after the other from a state, so rows of a batch cannot disturb each other. The
# numbers are those of SplitMix64 (Steele, Lea & Flood 2014), in 64-bit integers, the same on every machine and in every
# browser.

MASK: Final = 2**64 - 1
STEP: Final = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio
FACTORS: Final = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def key_of(seed: int, prompt: str, number: int, read: bytes = b"") -> int:
    """64 bits that begin the numbers of one text; `number` counts the texts of one prompt and seed.

    `read` stands for what was read before the prompt. Without it, a text that goes on from another one would be drawn
    with the numbers of that one, and soon repeat it.
    """
    key = seed & MASK
    for value in (0, *map(ord, prompt)):
        key = _mixed(key ^ value)
    if number:  # above all characters: another seed has other texts, not the same ones in another order
        key = _mixed(key ^ (number << 32))
    if read:
        key = _mixed(key ^ int.from_bytes(hashlib.sha256(read).digest()[:8]))
    return key


def uniforms(keys_R: NDArray[np.uint64], start: int, count: int) -> Double:
    """Numbers (R, count) in [0, 1), with 53 bits: those at positions `start`, `start + 1`, ... of each row's text."""
    positions = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    bits = keys_R[:, None] + positions * np.uint64(STEP)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(FACTORS[0])
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(FACTORS[1])
    bits = (bits ^ (bits >> np.uint64(31))) >> np.uint64(11)
    numbers: Double = bits.astype(np.float64) * 2.0**-53
    return numbers


def _mixed(bits: int) -> int:
    bits = (bits + STEP) & MASK
    bits = ((bits ^ (bits >> 30)) * FACTORS[0]) & MASK
    bits = ((bits ^ (bits >> 27)) * FACTORS[1]) & MASK
    return bits ^ (bits >> 31)


# Which byte may follow in UTF-8, so that texts of bytes always decode: no surrogates, no overlong forms.
#
# An automaton over the well-formed byte sequences of the Unicode Standard (table 3-7). Its states say what is due:
# nothing; 1, 2 or 3 continuation bytes; or a second byte after E0, ED, F0 or F4, which have narrower ranges.

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


NEXT: Final = np.full((8, 256), -1)  # (S, V): the state after a byte; -1 where the byte is not allowed
for _before, _first, _last, _after in TRANSITIONS:
    NEXT[_before, _first : _last + 1] = _after
ALLOWED: Final = NEXT >= 0  # (S, V)


def states_after(beginnings: Sequence[bytes]) -> Ids:
    """The states (R,) after the first bytes of a character each, or after none."""
    return np.array([reduce(lambda state, byte: int(NEXT[state, byte]), one, START) for one in beginnings], np.int64)


# Probabilities from logits, and characters drawn by them.

FRACTION_BITS: Final = 12  # of the table's argument
LOWEST: Final = -1000  # binary logarithm of the smallest probability, relative to the largest
FIRST_STEP: Final = 0.5 - LOWEST * 2**FRACTION_BITS  # that of the largest logit; 0.5 is for rounding
PER_NAT: Final = math.log2(math.e) * 2**FRACTION_BITS
MAX_FACTOR: Final = 1e60  # brings any difference of two float32 numbers below the smallest probability
# Rounded to 30 binary places, so that the last bit of a mathematical library decides nothing.
FRACTIONS: Final = np.floor(np.exp2(np.arange(2**FRACTION_BITS) / 2**FRACTION_BITS) * 2**30 + 0.5) / 2**30
POWERS: Final = np.ldexp(1.0, np.arange(LOWEST, 1))


class Rules(NamedTuple):
    """The rules of all rows, as columns. What a row does not ask for is 0, the vocabulary's size or infinity.

    `factor_R` turns differences of logits into steps of the table; it is 0 where the likeliest character is taken. A
    `top_p` of 1 is infinite, so that rounding drops nothing.
    """

    factor_R: Double
    min_p_R: Double
    top_k_R: Ids
    top_p_R: Double
    is_greedy_R: Bools

    @classmethod
    def of(cls, rules: Sequence[Sampling], vocab_size: int) -> "Rules":
        """The rules of several rows, one for each of `rules`."""
        return cls(
            np.array([min(PER_NAT / rule.temperature, MAX_FACTOR) if rule.temperature else 0.0 for rule in rules]),
            np.array([rule.min_p for rule in rules], np.float64),
            np.array([min(rule.top_k or vocab_size, vocab_size) for rule in rules], np.int64),
            np.array([rule.top_p if rule.top_p < 1 else math.inf for rule in rules]),
            np.array([rule.temperature == 0 for rule in rules], np.bool_),
        )

    def rows(self, rows: slice | list[int]) -> "Rules":
        """The rules of some of the rows."""
        return Rules._make(column_R[rows] for column_R in self)


def draw(logits_RV: Float, rules: Rules, uniforms_R: Double, allowed_RV: Bools | None = None) -> Ids:
    """Ids (R,) of one character a row; `uniforms_R` are in [0, 1).

    With `allowed_RV` all others are as if the vocabulary did not have them.
    """
    if allowed_RV is not None:
        logits_RV = np.where(allowed_RV, logits_RV, np.float32(-np.inf))
    sums_RV = relative_probabilities(logits_RV, rules, allowed_RV).cumsum(1)
    ids_R = (sums_RV <= uniforms_R[:, None] * sums_RV[:, -1:]).sum(1)
    drawn_R: Ids = np.where(rules.is_greedy_R, logits_RV.argmax(1), ids_R)
    return drawn_R


def relative_probabilities(logits_RV: Float, rules: Rules, allowed_RV: Bools | None = None) -> Double:
    """The distributions (R, V) that the rules make of the logits, up to a factor a row: the likeliest has 1.

    Logits that are not allowed are -inf.
    """
    below_RV = logits_RV.astype(np.float64)
    below_RV -= below_RV.max(1, keepdims=True)
    if allowed_RV is not None:
        below_RV[~allowed_RV] = 0  # -inf times 0, the factor of a greedy row, is no number
    steps_RV = np.maximum(below_RV * rules.factor_R[:, None] + FIRST_STEP, 0).astype(np.int32)
    probable_RV = FRACTIONS.take(steps_RV & (2**FRACTION_BITS - 1)) * POWERS.take(steps_RV >> FRACTION_BITS)
    if allowed_RV is not None:
        probable_RV *= allowed_RV
    probable_RV *= probable_RV >= rules.min_p_R[:, None]
    has_top_k, has_top_p = (rules.top_k_R < logits_RV.shape[1]).any(), (rules.top_p_R < 1).any()
    if has_top_k or has_top_p:
        sorted_RV = np.sort(probable_RV, 1)[:, ::-1]
        smallest_R1 = np.take_along_axis(sorted_RV, rules.top_k_R[:, None] - 1, 1)
        probable_RV *= probable_RV >= smallest_R1
        sorted_RV *= sorted_RV >= smallest_R1
    if has_top_p:
        sums_RV = sorted_RV.cumsum(1)
        num_kept_R1 = (sums_RV - sorted_RV < rules.top_p_R[:, None] * sums_RV[:, -1:]).sum(1, keepdims=True)
        probable_RV *= probable_RV >= np.take_along_axis(sorted_RV, num_kept_R1 - 1, 1)
    return probable_RV


# Strings that end a text.


def cut_at_stop(text: str, start: int, stops: Sequence[str]) -> tuple[int, int] | None:
    """The start and end in `text` of the first stop string that ends after `start`; None if there is none."""
    found = [(text.find(stop, max(0, start - len(stop) + 1)), stop) for stop in stops]
    return min(((at, at + len(stop)) for at, stop in found if at >= 0), default=None, key=lambda span: span[::-1])


def num_pending(text: str, stops: Sequence[str]) -> int:
    """The number of characters at the end of `text` that may become a stop string."""
    lengths = (length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length]))
    return max(lengths, default=0)
