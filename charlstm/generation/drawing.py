"""Drawing characters from logits by a rule and counted random numbers, the same to the bit on any machine.

e^x has no one way of rounding, so probabilities come from a table of 2^x in steps of 1/4096: each is within 0.01 % of
the exact one. All sums run in the order of the vocabulary. Shapes: R rows, V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.sampling import Sampling

# Random numbers of a text: a function of its seed, its prompt and the character's position, and of nothing else.
#
# They are counted, not drawn one after the other from a state, so rows of a batch cannot disturb each other. The
# numbers are those of SplitMix64 (Steele, Lea & Flood 2014), in 64-bit integers, the same on every machine and in every
# browser.

MASK: Final = 2**64 - 1
STEP: Final = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio
FACTORS: Final = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def key_of(seed: int, prompt: str, number: int) -> int:
    """64 bits that begin the numbers of one text; `number` counts the texts of one prompt and seed."""
    key = seed & MASK
    for value in (number, *map(ord, prompt)):
        key = _mixed(key ^ value)
    return key


def uniforms(keys_R: NDArray[np.uint64], start: int, count: int) -> NDArray[np.float64]:
    """Numbers (R, count) in [0, 1), with 53 bits: those at positions `start`, `start + 1`, ... of each row's text."""
    positions = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    bits = keys_R[:, None] + positions * np.uint64(STEP)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(FACTORS[0])
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(FACTORS[1])
    bits = (bits ^ (bits >> np.uint64(31))) >> np.uint64(11)
    numbers: NDArray[np.float64] = bits.astype(np.float64) * 2.0**-53
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
# Shapes: R rows, S states, V bytes.

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


# Probabilities from logits, and characters drawn by them.

FRACTION_BITS: Final = 12  # of the table's argument
LOWEST: Final = -1000  # binary logarithm of the smallest probability, relative to the largest
PER_NAT: Final = math.log2(math.e) * 2**FRACTION_BITS
MAX_FACTOR: Final = 1e300
# Rounded to 30 binary places, so that the last bit of a mathematical library decides nothing.
FRACTIONS: Final = np.floor(np.exp2(np.arange(2**FRACTION_BITS) / 2**FRACTION_BITS) * 2**30 + 0.5) / 2**30
POWERS: Final = np.ldexp(1.0, np.arange(LOWEST, 1))


class Rules(NamedTuple):
    """The rules of all rows, as columns (R, 1); None where no row asks for it.

    `factor` turns differences of logits into steps of the table; it is 0 where the likeliest character is taken. A
    `top_p` of 1 is infinite, so that rounding drops nothing.
    """

    factor: Tensor
    min_p: Tensor | None
    top_k: Tensor | None
    top_p: Tensor | None
    is_greedy: Tensor | None

    @classmethod
    def of(cls, rules: Sequence[Sampling], vocab_size: int) -> "Rules":
        """For a row each."""
        greedy = [rule.temperature == 0 for rule in rules]
        kept = [min(rule.top_k or vocab_size, vocab_size) for rule in rules]
        return cls(
            _column([factor_of(rule.temperature) for rule in rules]),
            _column([rule.min_p for rule in rules]) if any(rule.min_p > 0 for rule in rules) else None,
            _column(kept).long() if min(kept, default=vocab_size) < vocab_size else None,
            _column([rule.top_p if rule.top_p < 1 else math.inf for rule in rules])
            if any(rule.top_p < 1 for rule in rules)
            else None,
            _column(greedy).bool() if any(greedy) else None,
        )


def factor_of(temperature: float) -> float:
    """Steps of the table for a difference of 1 between logits."""
    return min(PER_NAT / temperature, MAX_FACTOR) if temperature > 0 else 0.0


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def draw(logits_RV: Tensor, rules: Rules, uniforms_R: Tensor, allowed_RV: Tensor | None = None) -> Tensor:
    """Ids (R,) of one character a row; `uniforms_R` are float64 in [0, 1).

    With `allowed_RV` (bool) all others are as if the vocabulary did not have them.
    """
    if allowed_RV is not None:
        logits_RV = logits_RV.masked_fill(~allowed_RV, -math.inf)
    sums_RV = relative_probabilities(logits_RV, rules, allowed_RV).cumsum(1)
    ids_R = (sums_RV <= uniforms_R[:, None] * sums_RV[:, -1:]).sum(1)
    return ids_R if rules.is_greedy is None else torch.where(rules.is_greedy[:, 0], logits_RV.argmax(1), ids_R)


def relative_probabilities(logits_RV: Tensor, rules: Rules, allowed_RV: Tensor | None = None) -> Tensor:
    """The distributions (R, V) that the rules make of the logits, in float64, up to a factor a row.

    Logits that are not allowed are -inf.
    """
    below_RV = logits_RV.double()
    below_RV -= below_RV.amax(1, keepdim=True)
    if allowed_RV is not None:
        below_RV.masked_fill_(~allowed_RV, 0)  # -inf times 0, the factor of a greedy row, is no number
    steps_RV = (below_RV * rules.factor).add_(0.5 - LOWEST * 2**FRACTION_BITS).clamp_(min=0).to(torch.int32)
    wholes_RV, fractions_RV = steps_RV >> FRACTION_BITS, steps_RV & (2**FRACTION_BITS - 1)
    probable_RV = _look_up(_FRACTIONS, fractions_RV).mul_(_look_up(_POWERS, wholes_RV))
    if allowed_RV is not None:
        probable_RV *= allowed_RV
    return _kept(probable_RV, rules)


def _kept(probable_RV: Tensor, rules: Rules) -> Tensor:
    """Zeros instead of what a rule excludes. The largest of a row is 1."""
    if rules.min_p is not None:
        probable_RV *= probable_RV >= rules.min_p
    if rules.top_k is None and rules.top_p is None:
        return probable_RV
    sorted_RV = torch.from_numpy(np.sort(probable_RV.numpy(), 1)).flip(1)  # numpy's is several times as fast
    if rules.top_k is not None:
        smallest_R1 = sorted_RV.gather(1, rules.top_k - 1)
        probable_RV *= probable_RV >= smallest_R1
        sorted_RV *= sorted_RV >= smallest_R1
    if rules.top_p is not None:
        sums_RV = sorted_RV.cumsum(1)
        num_kept_R1 = (sums_RV - sorted_RV < rules.top_p * sums_RV[:, -1:]).sum(1, keepdim=True)
        probable_RV *= probable_RV >= sorted_RV.gather(1, num_kept_R1 - 1)
    return probable_RV


def probabilities(logits_V: Tensor, rule: Sampling) -> Tensor:
    """The distribution (V,) that `rule` makes of the logits, in float64."""
    if rule.temperature == 0:
        return torch.zeros(len(logits_V), dtype=torch.float64).index_fill(0, logits_V.argmax(), 1)
    relative_V = relative_probabilities(logits_V[None], Rules.of([rule], len(logits_V)))[0]
    return relative_V / relative_V.sum()


def _look_up(table: Tensor, indices_RV: Tensor) -> Tensor:
    return table.index_select(0, indices_RV.view(-1)).view(indices_RV.shape)


_FRACTIONS: Final = torch.from_numpy(FRACTIONS)
_POWERS: Final = torch.from_numpy(POWERS)


# Strings that end a text.


def cut_at_stop(text: str, start: int, stops: Sequence[str]) -> tuple[int, int] | None:
    """Where the first stop string that ends after `start` begins and ends in `text`; None if there is none."""
    found = [(text.find(stop, max(0, start - len(stop) + 1)), stop) for stop in stops]
    return min(((at, at + len(stop)) for at, stop in found if at >= 0), default=None, key=lambda span: span[::-1])


def num_pending(text: str, stops: Sequence[str]) -> int:
    """The number of characters at the end of `text` that may become a stop string."""
    lengths = (length for stop in stops for length in range(1, len(stop)) if text.endswith(stop[:length]))
    return max(lengths, default=0)
