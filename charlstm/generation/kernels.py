"""The sampler's arithmetic (`quantized.py` has the equations) as plain loops, which numba compiles.

Each operation is rounded alone, in the order written, so every processor gives the same bits. numba keeps the compiled
code next to this file, or in the user's cache folder. It sees changes of this file alone, so all constants are here.

Shapes: L layers, R rows, T characters, V vocabulary, H hidden units, G = 4H gate rows, S states of UTF-8; M matrices, P
the largest number of rows of a matrix and Q of columns, rounded up to whole tiles.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numba
import numpy as np
from numba.core.registry import cpu_target
from numpy.typing import NDArray

from charlstm.sampling import Sampling

Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Float = NDArray[np.float32]
Double = NDArray[np.float64]
Ids = NDArray[np.int64]
Bools = NDArray[np.bool_]

STEPS_PER_UNIT: Final = 256  # of a table's argument
TABLE_LEN: Final = 8192  # for arguments from -16 to 16
MIDDLE: Final = TABLE_LEN / 2 + 0.5  # the index of 0, and 1/2 for rounding
LEVELS: Final = 127  # of a weight or an activation, on either side of 0
FRACTION_BITS: Final = 12  # of the argument of a table of 2^x
LOWEST: Final = -1000  # binary logarithm of the smallest probability, relative to the largest
PER_NAT: Final = math.log2(math.e) * 2**FRACTION_BITS
MAX_FACTOR: Final = (
    1e60  # brings any difference of two float32 numbers below the smallest probability
)
# e^x has no one way of rounding, so probabilities come from a table of 2^x: each is within 0.01 % of the exact one.
# It has 30 binary places, so that the last bit of a mathematical library decides nothing.
FRACTIONS: Final = (
    np.floor(np.exp2(np.arange(2**FRACTION_BITS) / 2**FRACTION_BITS) * 2**30 + 0.5) / 2**30
)
POWERS: Final = np.ldexp(1.0, np.arange(LOWEST, 1))
FIRST_STEP: Final = (
    0.5 - LOWEST * 2**FRACTION_BITS
)  # that of the largest logit; 0.5 is for rounding
TILE: Final = 4  # rows and columns of a product at once
MAX_EXACT_COLUMNS: Final = 2**24 // LEVELS**2  # float32 has all whole numbers up to 2^24

GAPS: Final = (1750, 701, 301, 132, 57, 23, 10, 4, 1)  # of Shell's sort (Ciura 2001)

# numba would go on in float64 otherwise.
ZERO: Final = np.float32(0)
HALF: Final = np.float32(0.5)
TINY: Final = np.float32(1e-30)  # instead of a largest activation of 0, so that 127 / m is finite
ONE_LEVEL: Final = np.float32(1 / LEVELS)
LEVELS_F32: Final = np.float32(LEVELS)
STEPS_F32: Final = np.float32(STEPS_PER_UNIT)
MIDDLE_F32: Final = np.float32(MIDDLE)
FIRST_OF_TANH: Final = np.float32(TABLE_LEN)
LAST_STEP: Final = np.float32(TABLE_LEN - 1)
NEVER: Final = np.float32(-np.inf)  # the logit of what may not be drawn
FRACTION_MASK: Final = 2**FRACTION_BITS - 1


def import_compiler() -> None:
    """Import what the first call of a kernel would."""
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


class PackedModel(NamedTuple):
    """A quantized model in arrays that do not depend on its number of layers.

    Matrices in the order of `QuantizedModel.matrices`, filled up with zeros: weights by row as `by_row_MPQ`, by column
    as `by_column_MQP`; `sizes_M2` has their numbers of rows and columns. `first_VG` is added in the first layer, a row
    for each character, `upper_LG` in each layer above.
    """

    by_row_MPQ: Int16
    by_column_MQP: Float
    scales_MP: Float
    sizes_M2: Ids
    first_VG: Float
    upper_LG: Float
    bias_V: Float
    has_block: bool
    gate_table: Float
    tanh_levels: Float
    gelu_table: Float
    fractions: Double
    powers: Double
    next_SV: Ids


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
            np.array(
                [
                    min(PER_NAT / rule.temperature, MAX_FACTOR) if rule.temperature else 0.0
                    for rule in rules
                ]
            ),
            np.array([rule.min_p for rule in rules], np.float64),
            np.array([min(rule.top_k or vocab_size, vocab_size) for rule in rules], np.int64),
            np.array([rule.top_p if rule.top_p < 1 else math.inf for rule in rules]),
            np.array([rule.temperature == 0 for rule in rules], np.bool_),
        )

    def rows(self, rows: slice | list[int]) -> "Rules":
        """The rules of some of the rows."""
        return Rules._make(column_R[rows] for column_R in self)


# Functions that only compiled code calls; the sums of the second kind are exact, so the compiler may order them.
part = numba.njit(error_model="numpy", no_cpython_wrapper=True)
any_order = numba.njit(
    error_model="numpy", fastmath={"contract", "reassoc"}, no_cpython_wrapper=True
)


def entry(function: Callable[..., None]) -> Callable[..., None]:
    """A function that Python calls; other threads run meanwhile."""
    try:
        return numba.njit(error_model="numpy", nogil=True, cache=True)(function)
    except RuntimeError:  # there is no folder in which the compiled code could be kept
        return numba.njit(error_model="numpy", nogil=True)(function)


# Products of 8-bit integers.


@part
def multiply(model: PackedModel, number: int, inputs_RQ: Int16) -> Float:
    """Matrix `number` times each row of inputs, as exact sums (R, N)."""
    num_rows, num_outputs, num_columns = (
        len(inputs_RQ),
        model.sizes_M2[number, 0],
        model.sizes_M2[number, 1],
    )
    sums_RN, num_tiled = np.zeros((num_rows, num_outputs), np.float32), 0
    if num_rows >= TILE and num_columns <= MAX_EXACT_COLUMNS:
        floats_RQ, num_tiled = inputs_RQ.astype(np.float32), num_rows - num_rows % TILE
        for row in range(0, num_tiled, TILE):
            add_tile(model.by_column_MQP[number], floats_RQ[row:], num_columns, sums_RN[row:])
    for row in range(num_tiled, num_rows):
        add_row(model.by_row_MPQ[number], inputs_RQ[row], num_columns, sums_RN[row])
    return sums_RN


@part
def add_row(weights_PQ: Int16, inputs_Q: Int16, num_columns: int, sums_N: Float) -> None:
    """Multiply one row of inputs."""
    for index in range(len(sums_N)):
        weights_Q, total = weights_PQ[index], np.int32(0)
        for column in range(num_columns):
            total += np.int32(weights_Q[column]) * np.int32(inputs_Q[column])
        sums_N[index] = np.float32(np.int32(total))


@any_order
def add_tile(weights_QP: Float, inputs_RQ: Float, num_columns: int, sums_RN: Float) -> None:
    """Multiply four rows of inputs, each weight loaded once for all of them. Floats hold the whole numbers exactly."""
    a, b, c, d = inputs_RQ[0], inputs_RQ[1], inputs_RQ[2], inputs_RQ[3]
    sums_0, sums_1, sums_2, sums_3 = sums_RN[0], sums_RN[1], sums_RN[2], sums_RN[3]
    for column in range(0, num_columns, TILE):
        weights_0, weights_1 = weights_QP[column], weights_QP[column + 1]
        weights_2, weights_3 = weights_QP[column + 2], weights_QP[column + 3]
        a0, a1, a2, a3 = a[column], a[column + 1], a[column + 2], a[column + 3]
        b0, b1, b2, b3 = b[column], b[column + 1], b[column + 2], b[column + 3]
        c0, c1, c2, c3 = c[column], c[column + 1], c[column + 2], c[column + 3]
        d0, d1, d2, d3 = d[column], d[column + 1], d[column + 2], d[column + 3]
        for index in range(len(sums_0)):
            w0, w1, w2, w3 = weights_0[index], weights_1[index], weights_2[index], weights_3[index]
            sums_0[index] += w0 * a0 + w1 * a1 + w2 * a2 + w3 * a3
            sums_1[index] += w0 * b0 + w1 * b1 + w2 * b2 + w3 * b3
            sums_2[index] += w0 * c0 + w1 * c1 + w2 * c2 + w3 * c3
            sums_3[index] += w0 * d0 + w1 * d1 + w2 * d2 + w3 * d3


# Reading, and logits.


@part
def look_up(table: Float, places_K: Float, first: np.float32) -> None:
    """Replace places by the table's entries; places are kept within `TABLE_LEN` from `first` on."""
    last = first + LAST_STEP
    for index in range(len(places_K)):
        place = places_K[index] if places_K[index] > first else first  # also if it is not a number
        places_K[index] = table[np.uint32(place if place < last else last)]


@part
def eight_bits(values_K: Float, inputs_Q: Int16) -> np.float32:
    """Round values to 8 bits, for a product; their largest magnitude, the factor that undoes it."""
    largest = TINY
    for column in range(len(values_K)):
        magnitude = abs(values_K[column])
        largest = magnitude if magnitude > largest else largest
    per_unit = LEVELS_F32 / largest
    for column in range(len(values_K)):
        inputs_Q[column] = np.int16(np.floor(values_K[column] * per_unit + HALF))
    return largest


@part
def read_one(
    model: PackedModel, ids_RT: Ids, position: int, hidden_RLH: Int8, cell_RLH: Float
) -> None:
    """Read one character in each row."""
    num_rows, num_layers, size = hidden_RLH.shape
    inputs_RQ = np.zeros((num_rows, model.by_row_MPQ.shape[2]), np.int16)
    for layer in range(num_layers):
        below = max(layer - 1, 0)  # the layer whose output is read, before the layer's own
        for row in range(num_rows):
            states = hidden_RLH[row].reshape(num_layers * size)[below * size : (layer + 1) * size]
            for unit in range(len(states)):
                inputs_RQ[row, unit] = states[unit]
        sums_RG = multiply(model, layer, inputs_RQ)
        for row in range(num_rows):
            base_G = model.upper_LG[below] if layer > 0 else model.first_VG[ids_RT[row, position]]
            gate(
                model,
                sums_RG[row],
                model.scales_MP[layer],
                base_G,
                hidden_RLH[row, layer],
                cell_RLH[row, layer],
            )


@part
def gate(
    model: PackedModel,
    gates_G: Float,
    scales_P: Float,
    base_G: Float,
    hidden_H: Int8,
    cell_H: Float,
) -> None:
    """Update one layer of one row: c = f c + i g, h = o tanh(c)."""
    size = len(hidden_H)
    for index in range(4 * size):
        gates_G[index] = gates_G[index] * scales_P[index] + base_G[index]
    look_up(model.gate_table, gates_G[: 3 * size], ZERO)
    look_up(model.gate_table, gates_G[3 * size :], FIRST_OF_TANH)
    input_H, forget_H, output_H, candidate_H = (
        gates_G[:size],
        gates_G[size:],
        gates_G[2 * size :],
        gates_G[3 * size :],
    )
    levels_H = np.empty(size, np.float32)
    for unit in range(size):
        cell_H[unit] = forget_H[unit] * cell_H[unit] + input_H[unit] * candidate_H[unit]
        levels_H[unit] = cell_H[unit] * STEPS_F32 + MIDDLE_F32
    look_up(model.tanh_levels, levels_H, ZERO)
    for unit in range(size):
        hidden_H[unit] = np.int8(np.floor(output_H[unit] * levels_H[unit] + HALF))


@part
def predict(model: PackedModel, hidden_RLH: Int8) -> Float:
    """The next character's logits (R, V): W_head (h + W_down gelu(W_up h)) + b."""
    num_rows, _, size = hidden_RLH.shape
    head, factors_R = len(model.sizes_M2) - 1, np.ones(num_rows, np.float32)
    inputs_RQ = np.zeros((num_rows, model.by_row_MPQ.shape[2]), np.int16)
    for row in range(num_rows):
        for unit in range(size):
            inputs_RQ[row, unit] = hidden_RLH[row, -1, unit]
    if model.has_block:
        inner_RF = multiply(model, head - 2, inputs_RQ)
        for row in range(num_rows):
            for unit in range(inner_RF.shape[1]):
                inner_RF[row, unit] = (
                    inner_RF[row, unit] * model.scales_MP[head - 2, unit] + MIDDLE_F32
                )
            look_up(model.gelu_table, inner_RF[row], ZERO)
            factors_R[row] = eight_bits(inner_RF[row], inputs_RQ[row])
        outer_RH = multiply(model, head - 1, inputs_RQ)
        for row in range(num_rows):
            for unit in range(size):
                added = outer_RH[row, unit] * (model.scales_MP[head - 1, unit] * factors_R[row])
                outer_RH[row, unit] = np.float32(hidden_RLH[row, -1, unit]) * ONE_LEVEL + added
            factors_R[row] = eight_bits(outer_RH[row], inputs_RQ[row])
    logits_RV = multiply(model, head, inputs_RQ)
    for row in range(num_rows):
        for index in range(len(model.bias_V)):
            scale = model.scales_MP[head, index] * factors_R[row]
            logits_RV[row, index] = logits_RV[row, index] * scale + model.bias_V[index]
    return logits_RV


# Drawing.


@part
def draw(
    model: PackedModel, logits_V: Float, rules: Rules, row: int, uniform: float, utf8_R: Ids
) -> int:
    """The id of one character, by the rule of `row`.

    Where the row's text is of bytes, only those are drawn from that keep it valid UTF-8, as if there were no others.
    """
    state, likeliest = utf8_R[row], 0
    for index in range(len(logits_V)):
        if state >= 0 and model.next_SV[state, index] < 0:
            logits_V[index] = NEVER
        if logits_V[index] > logits_V[likeliest]:
            likeliest = index
    drawn, total, sum_so_far = likeliest, 0.0, 0.0
    if not rules.is_greedy_R[row]:
        drawn, probable_V = (
            0,
            relative_probabilities(model, logits_V, logits_V[likeliest], rules, row),
        )
        for probable in probable_V:
            total += probable
        for probable in probable_V:
            sum_so_far += probable
            drawn += sum_so_far <= uniform * total
    if state >= 0:
        utf8_R[row] = model.next_SV[state, drawn]
    return drawn


@part
def relative_probabilities(
    model: PackedModel, logits_V: Float, largest: np.float32, rules: Rules, row: int
) -> Double:
    """Probabilities relative to the likeliest one, 2^x from tables; 0 for what the rule leaves out."""
    probable_V, top_k = np.zeros(len(logits_V), np.float64), min(rules.top_k_R[row], len(logits_V))
    for index in range(len(logits_V)):
        if logits_V[index] > NEVER:
            below = np.float64(logits_V[index]) - np.float64(largest)
            steps = below * rules.factor_R[row] + FIRST_STEP
            step = np.int32(steps if steps > 0 else 0.0)
            probable = model.fractions[step & FRACTION_MASK] * model.powers[step >> FRACTION_BITS]
            probable_V[index] = probable if probable >= rules.min_p_R[row] else 0.0
    if top_k < len(logits_V) or rules.top_p_R[row] < 1:
        smallest = smallest_kept(descending(probable_V), top_k, rules.top_p_R[row])
        for index in range(len(logits_V)):
            if probable_V[index] < smallest:
                probable_V[index] = 0.0
    return probable_V


@part
def descending(values_V: Double) -> Double:
    """Values from the largest to the smallest, by Shell's sort: numba takes seconds to compile numpy's."""
    sorted_V = values_V.copy()
    for gap in GAPS:
        for place in range(gap, len(sorted_V)):
            value, left = sorted_V[place], place - gap
            while left >= 0 and sorted_V[left] < value:
                sorted_V[left + gap] = sorted_V[left]
                left -= gap
            sorted_V[left + gap] = value
    return sorted_V


@part
def smallest_kept(sorted_V: Double, top_k: int, top_p: float) -> float:
    """The smallest value that top-k and then top-p keep of values that begin with the largest."""
    smallest, total = sorted_V[top_k - 1], 0.0
    for value in sorted_V:
        total += value if value >= smallest else 0.0
    sum_so_far, num_kept = 0.0, 0
    for value in sorted_V:
        kept = value if value >= smallest else 0.0
        sum_so_far += kept
        num_kept += sum_so_far - kept < top_p * total
    return max(sorted_V[num_kept - 1], smallest)


# What Python calls.


@entry
def advance(
    model: PackedModel,
    rules: Rules,
    uniforms_RT: Double,
    num_given: int,
    ids_RT: Ids,
    hidden_RLH: Int8,
    cell_RLH: Float,
    utf8_R: Ids,
) -> None:
    """Read the first `num_given` of `ids_RT`; draw the others, and read them, too. The states change in place.

    Those of `utf8_R` are states of `vocabulary.NEXT`, below 0 where ids are no bytes of UTF-8.
    """
    for position in range(ids_RT.shape[1]):
        if position >= num_given:
            logits_RV = predict(model, hidden_RLH)
            for row in range(len(ids_RT)):
                uniform = uniforms_RT[row, position - num_given]
                ids_RT[row, position] = draw(model, logits_RV[row], rules, row, uniform, utf8_R)
        read_one(model, ids_RT, position, hidden_RLH, cell_RLH)


@entry
def score(
    model: PackedModel, ids_RT: Ids, hidden_RLH: Int8, cell_RLH: Float, logits_RTV: Float
) -> None:
    """Read all ids, and write the logits after each into `logits_RTV`."""
    for position in range(ids_RT.shape[1]):
        read_one(model, ids_RT, position, hidden_RLH, cell_RLH)
        logits_RV = predict(model, hidden_RLH)
        for row in range(len(ids_RT)):
            for index in range(len(model.bias_V)):
                logits_RTV[row, position, index] = logits_RV[row, index]
