"""Drawing characters from logits, for many rows at once, the same to the bit on any machine.

e^x has no one way of rounding, so probabilities come from a table of 2^x in steps of 1/4096: each is within 0.01 % of
the exact one. All sums run in the order of the vocabulary. Shapes: R rows, V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from charlstm.generation.rule import SamplingRule

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
    def of(cls, rules: Sequence[SamplingRule], vocab_size: int) -> "Rules":
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


def probabilities(logits_V: Tensor, rule: SamplingRule) -> Tensor:
    """The distribution (V,) that `rule` makes of the logits, in float64."""
    if rule.temperature == 0:
        return torch.zeros(len(logits_V), dtype=torch.float64).index_fill(0, logits_V.argmax(), 1)
    relative_V = relative_probabilities(logits_V[None], Rules.of([rule], len(logits_V)))[0]
    return relative_V / relative_V.sum()


def _look_up(table: Tensor, indices_RV: Tensor) -> Tensor:
    return table.index_select(0, indices_RV.view(-1)).view(indices_RV.shape)


_FRACTIONS: Final = torch.from_numpy(FRACTIONS)
_POWERS: Final = torch.from_numpy(POWERS)
