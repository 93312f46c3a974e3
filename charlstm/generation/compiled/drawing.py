"""What `generation/drawing.py` computes for one row, in machine code. Shapes: R rows, V vocabulary."""

from typing import Final

import numpy as np

from charlstm.generation.compiled.layout import Double, DrawingWork, Float, Ids, Rules
from charlstm.generation.compiled.machine_code import inlined, part
from charlstm.generation.drawing import FRACTION_BITS, LOWEST

FRACTION_MASK: Final = 2**FRACTION_BITS - 1
FIRST_STEP: Final = 0.5 - LOWEST * 2**FRACTION_BITS
MAX_RANKED: Final = 256
GAPS: Final = np.array([1750, 701, 301, 132, 57, 23, 10, 4, 1])  # of Shell's sort (Ciura 2001)


@part
def draw(logits_V: Float, rules: Rules, row: int, uniform: float, work: DrawingWork) -> int:
    """The id of one character, by the rule of `row`."""
    likeliest = 0
    for index in range(len(logits_V)):
        if logits_V[index] > logits_V[likeliest]:
            likeliest = index
    if rules.is_greedy_R[row]:
        return likeliest
    relative_probabilities(logits_V, logits_V[likeliest], rules, row, work)
    total = 0.0
    for index in range(len(logits_V)):
        total += work.probable_V[index]
    bound, sum_so_far, drawn = uniform * total, 0.0, 0
    for index in range(len(logits_V)):
        sum_so_far += work.probable_V[index]
        drawn += sum_so_far <= bound
    return drawn


@inlined
def draw_utf8(logits_V: Float, rules: Rules, row: int, uniform: float, utf8_R: Ids, work: DrawingWork) -> int:
    """The same of the bytes alone that keep the text of `row` valid UTF-8; its state in `utf8_R` changes.

    They are drawn from as if there were no others: zeros would change no sum.
    """
    state, num_allowed = utf8_R[row], 0
    for index in range(len(logits_V)):
        if work.next_SV[state, index] >= 0:
            work.allowed_V[num_allowed] = logits_V[index]
            work.allowed_ids_V[num_allowed] = index
            num_allowed += 1
    drawn: int = work.allowed_ids_V[draw(work.allowed_V[:num_allowed], rules, row, uniform, work)]
    utf8_R[row] = work.next_SV[state, drawn]
    return drawn


@inlined
def relative_probabilities(logits_V: Float, largest: float, rules: Rules, row: int, work: DrawingWork) -> None:
    """In `probable_V`: 2^x from tables, and zeros instead of what the rule excludes."""
    vocab_size = len(logits_V)
    probable_V, top_k = work.probable_V[:vocab_size], min(rules.top_k_R[row], vocab_size)
    for index in range(vocab_size):
        below = np.float64(logits_V[index]) - np.float64(largest)
        steps = below * rules.factor_R[row] + FIRST_STEP
        step = np.int32(steps if steps > 0 else 0.0)
        probable = work.fractions[step & FRACTION_MASK] * work.powers[step >> FRACTION_BITS]
        probable_V[index] = probable if probable >= rules.min_p_R[row] else 0.0
    if top_k < vocab_size or rules.top_p_R[row] < 1:
        smallest = smallest_kept(probable_V, top_k, rules.top_p_R[row], work.sorted_V[:vocab_size])
        for index in range(vocab_size):
            if probable_V[index] < smallest:
                probable_V[index] = 0.0


@inlined
def smallest_kept(probable_V: Double, top_k: int, top_p: float, sorted_V: Double) -> float:
    """The smallest value that top-k and then top-p keep."""
    sort_descending(probable_V, sorted_V)
    smallest: float = sorted_V[top_k - 1]
    total, num_kept = 0.0, 0
    for value in sorted_V:
        total += value if value >= smallest else 0.0
    sum_so_far = 0.0
    for value in sorted_V:
        kept = value if value >= smallest else 0.0
        sum_so_far += kept
        num_kept += sum_so_far - kept < top_p * total
    last: float = sorted_V[num_kept - 1]
    return last if last > smallest else smallest


@inlined
def sort_descending(values_V: Double, sorted_V: Double) -> None:
    """Values that are not negative, the largest first."""
    if len(values_V) <= MAX_RANKED:
        sort_by_rank(values_V, sorted_V)
    else:
        sort_by_gaps(values_V, sorted_V)


@part
def sort_by_rank(values_V: Double, sorted_V: Double) -> None:
    """Put each after all that are larger. V^2 comparisons, but many at a time."""
    for place in range(len(values_V)):
        sorted_V[place] = -1.0
    for index in range(len(values_V)):
        value, rank = values_V[index], 0
        for other in range(len(values_V)):
            rank += 1 if values_V[other] > value else 0
        sorted_V[rank] = value
    for place in range(1, len(sorted_V)):  # equal values have one rank, and leave those after it free
        if sorted_V[place] < 0:
            sorted_V[place] = sorted_V[place - 1]


@part
def sort_by_gaps(values_V: Double, sorted_V: Double) -> None:
    """Shell's sort."""
    for index in range(len(values_V)):
        sorted_V[index] = values_V[index]
    for gap in GAPS:
        for place in range(gap, len(sorted_V)):
            value, left = sorted_V[place], place - gap
            while left >= 0 and sorted_V[left] < value:
                sorted_V[left + gap] = sorted_V[left]
                left -= gap
            sorted_V[left + gap] = value
