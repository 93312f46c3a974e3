"""Compiled arithmetic of the sampler: the equations in `quantized.py`, written as loops for numba.

Every operation is rounded separately, in the written order, so every processor computes the same
bits. numba caches the compiled code next to this file, or in the user's cache folder. Only changes
to this file invalidate the cache, so all constants and types of compiled code are defined here.

Shapes: L layers, R rows, T characters, V vocabulary, H hidden units, G = 4H gate rows, S UTF-8
states, K values in a vector, M matrices with N rows. P is the largest number of rows in a matrix
and Q the largest number of columns, both rounded up to whole tiles.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from charlstm.sampling import Sampling

Int8 = NDArray[np.int8]
Int16 = NDArray[np.int16]
Float = NDArray[np.float32]
Double = NDArray[np.float64]
Ids = NDArray[np.int64]

STEPS_PER_UNIT: Final = 256  # table entries per unit of a function's argument
TABLE_LEN: Final = 8192  # number of entries in a table, for arguments from -16 to 16
MIDDLE: Final = TABLE_LEN / 2 + 0.5  # table index of the argument 0, plus 1/2 for rounding
LEVELS: Final = 127  # largest magnitude of an 8-bit weight or activation
TILE: Final = 4  # number of rows, and of columns, that are multiplied at once
MAX_EXACT_COLUMNS: Final = 2**24 // LEVELS**2  # float32 represents integers up to 2^24 exactly
NEVER: Final = np.float32(-np.inf)  # logit of a byte that would make the UTF-8 invalid

# Libraries round e^x differently, so probabilities come from tables of 2^x, accurate to 0.01 %.
# Entries have 30 binary places, so a library's rounding of the last bit cannot change them.
FRACTION_BITS: Final = 12
FRACTION_MASK: Final = 2**FRACTION_BITS - 1
EXACT_FRACTIONS: Final = np.exp2(np.arange(2**FRACTION_BITS) / 2**FRACTION_BITS)
FRACTIONS: Final = np.floor(EXACT_FRACTIONS * 2**30 + 0.5) / 2**30
LOWEST: Final = -1000  # binary logarithm of the smallest relative probability
POWERS: Final = np.ldexp(1.0, np.arange(LOWEST, 1))
FIRST_STEP: Final = 0.5 - LOWEST * 2**FRACTION_BITS  # table step of the largest logit, plus 1/2
PER_NAT: Final = math.log2(math.e) * 2**FRACTION_BITS  # table steps per nat
MAX_FACTOR: Final = 1e60  # moves even the smallest difference between float32 logits below LOWEST

SHELL_GAPS: Final = (1750, 701, 301, 132, 57, 23, 10, 4, 1)  # Ciura 2001

# These constants are float32, because a Python float would make numba compute in float64.
ZERO: Final = np.float32(0)
HALF: Final = np.float32(0.5)
TINY: Final = np.float32(1e-30)  # avoids a division by 0 if all activations are 0
ONE_LEVEL: Final = np.float32(1 / LEVELS)
LEVELS_F32: Final = np.float32(LEVELS)
STEPS_F32: Final = np.float32(STEPS_PER_UNIT)
MIDDLE_F32: Final = np.float32(MIDDLE)
FIRST_OF_TANH: Final = np.float32(TABLE_LEN)  # index of tanh's first entry in `gate_table`
LAST_STEP: Final = np.float32(TABLE_LEN - 1)


class PackedModel(NamedTuple):
    """Quantized model as NumPy arrays, whose types do not depend on the number of layers.

    The matrices, padded with zeros, are in the order of `QuantizedModel.matrices`. Weights are
    stored twice, by row and by column. `sizes_M2` has each matrix's numbers of rows and columns.
    `first_VG` is the first layer's `base_VG`, and `upper_LG` has a row for each layer above it.
    """

    by_row_MPQ: Int16
    by_column_MQP: Float
    scales_MP: Float
    sizes_M2: Ids
    first_VG: Float
    upper_LG: Float
    bias_V: Float
    gate_table: Float
    tanh_levels: Float
    gelu_table: Float
    next_SV: Ids


class Rules(NamedTuple):
    """Sampling rules for all rows, with one array per sampling option.

    A disabled `min_p` is stored as 0, a disabled `top_k` as the vocabulary size, and a disabled
    `top_p` as infinity, so that rounding drops no id. `factor_R` converts differences between
    logits to steps in the tables of 2^x. A factor of 0 means temperature 0, which always selects
    the likeliest id.
    """

    factor_R: Double
    min_p_R: Double
    top_k_R: Ids
    top_p_R: Double

    @classmethod
    def of(cls, rules: Sequence[Sampling], vocab_size: int) -> "Rules":
        """Return the sampling rules as arrays with one row per rule."""
        temperatures = (rule.temperature for rule in rules)
        return cls(
            np.array([min(PER_NAT / one, MAX_FACTOR) if one else 0.0 for one in temperatures]),
            np.array([rule.min_p for rule in rules], np.float64),
            np.array([min(rule.top_k or vocab_size, vocab_size) for rule in rules], np.int64),
            np.array([rule.top_p if rule.top_p < 1 else math.inf for rule in rules]),
        )

    def rows(self, rows: slice | list[int]) -> "Rules":
        """Return the sampling rules for the selected rows."""
        return Rules._make(column_R[rows] for column_R in self)


compiled: Final = partial(numba.njit, error_model="numpy")
# `part` compiles a function that only compiled code calls.
# `any_order` also lets the compiler reorder sums, which must therefore be exact in any order.
part = compiled(no_cpython_wrapper=True)
any_order = compiled(no_cpython_wrapper=True, fastmath={"contract", "reassoc"})


def entry(function: Callable[..., None]) -> Callable[..., None]:
    """Compile a function that Python calls. The compiled function releases the GIL."""
    try:
        return compiled(nogil=True, cache=True)(function)
    except RuntimeError:  # numba found no writable folder for its cache
        return compiled(nogil=True)(function)


@entry
def advance(
    model: PackedModel,
    rules: Rules,
    uniforms_RT: Double,
    ids_RT: Ids,
    hidden_RLH: Int8,
    cell_RLH: Float,
    utf8_R: Ids,
) -> None:
    """Read the given ids in each row, then sample and read one id per uniform random number.

    `ids_RT` has the given ids, followed by space for the sampled ids. The arrays of ids and states
    are updated in place. `utf8_R` has each row's UTF-8 state, or -1 if the ids are not bytes.
    """
    num_given = ids_RT.shape[1] - uniforms_RT.shape[1]
    for position in range(ids_RT.shape[1]):
        if position >= num_given:
            logits_RV = predict(model, hidden_RLH)
            for row in range(len(ids_RT)):
                uniform = uniforms_RT[row, position - num_given]
                ids_RT[row, position] = draw(model, logits_RV[row], rules, row, uniform, utf8_R)
        read_one(model, ids_RT, position, hidden_RLH, cell_RLH)


@part
def read_one(
    model: PackedModel, ids_RT: Ids, position: int, hidden_RLH: Int8, cell_RLH: Float
) -> None:
    """Read one id in each row and update the states of all rows."""
    num_rows, num_layers, _ = hidden_RLH.shape
    factors_R = np.ones(num_rows, np.float32)
    for layer in range(num_layers):
        # A layer multiplies its weights by its own state and by the state of the layer below.
        # The first layer reads characters, and its products with all characters are precomputed.
        below = max(layer - 1, 0)
        inputs_RQ = inputs_of(model, hidden_RLH, below, layer + 1)
        products_RG = multiply(model, layer, inputs_RQ, factors_R)
        for row in range(num_rows):
            base_G = model.upper_LG[below] if layer > 0 else model.first_VG[ids_RT[row, position]]
            gate(model, products_RG[row] + base_G, hidden_RLH[row, layer], cell_RLH[row, layer])


@part
def gate(model: PackedModel, gates_G: Float, hidden_H: Int8, cell_H: Float) -> None:
    """Update one layer in one row: c = f c + i g, h = o tanh(c). `gates_G` has table indices."""
    size = len(hidden_H)
    look_up(model.gate_table, gates_G[: 3 * size], ZERO)
    look_up(model.gate_table, gates_G[3 * size :], FIRST_OF_TANH)
    input_H = gates_G[:size]
    forget_H = gates_G[size:]
    output_H = gates_G[2 * size :]
    candidate_H = gates_G[3 * size :]

    levels_H = np.empty(size, np.float32)
    for unit in range(size):
        cell_H[unit] = forget_H[unit] * cell_H[unit] + input_H[unit] * candidate_H[unit]
        levels_H[unit] = cell_H[unit] * STEPS_F32 + MIDDLE_F32
    look_up(model.tanh_levels, levels_H, ZERO)
    for unit in range(size):
        hidden_H[unit] = np.int8(np.floor(output_H[unit] * levels_H[unit] + HALF))


@part
def predict(model: PackedModel, hidden_RLH: Int8) -> Float:
    """Return the next character's logits (R, V): W_head (h + W_down gelu(W_up h)) + b."""
    num_rows, num_layers, _ = hidden_RLH.shape
    head = len(model.sizes_M2) - 1
    factors_R = np.ones(num_rows, np.float32)
    inputs_RQ = inputs_of(model, hidden_RLH, num_layers - 1, num_layers)
    if head > num_layers:  # the feed-forward block's two matrices come before the head
        inner_RF = multiply(model, head - 2, inputs_RQ, factors_R) + MIDDLE_F32
        for row in range(num_rows):
            look_up(model.gelu_table, inner_RF[row], ZERO)
            factors_R[row] = eight_bits(inner_RF[row], inputs_RQ[row])
        added_RH = multiply(model, head - 1, inputs_RQ, factors_R)
        for row in range(num_rows):
            sums_H = hidden_RLH[row, -1] * ONE_LEVEL + added_RH[row]
            factors_R[row] = eight_bits(sums_H, inputs_RQ[row])
    return multiply(model, head, inputs_RQ, factors_R) + model.bias_V


@part
def inputs_of(model: PackedModel, hidden_RLH: Int8, first: int, end: int) -> Int16:
    """Return the hidden states of layers `first` to `end - 1` as inputs of a matrix (R, Q)."""
    num_rows, _, size = hidden_RLH.shape
    inputs_RQ = np.zeros((num_rows, model.by_row_MPQ.shape[2]), np.int16)
    for row in range(num_rows):
        states = hidden_RLH[row].ravel()[first * size : end * size]
        for index in range(len(states)):  # numba would take seconds to compile a slice assignment
            inputs_RQ[row, index] = states[index]
    return inputs_RQ


@part
def multiply(model: PackedModel, number: int, inputs_RQ: Int16, factors_R: Float) -> Float:
    """Multiply input rows by the matrix at `number`. Return exact sums as scaled floats (R, N)."""
    num_outputs = model.sizes_M2[number, 0]
    num_columns = model.sizes_M2[number, 1]
    sums_RN = np.zeros((len(inputs_RQ), num_outputs), np.float32)
    num_tiled = 0
    if num_columns <= MAX_EXACT_COLUMNS:
        num_tiled = len(inputs_RQ) // TILE * TILE
        floats_RQ = inputs_RQ[:num_tiled].astype(np.float32)
        for row in range(0, num_tiled, TILE):
            add_tile(model.by_column_MQP[number], floats_RQ[row:], num_columns, sums_RN[row:])
    for row in range(num_tiled, len(inputs_RQ)):
        for index in range(num_outputs):
            weights_Q = model.by_row_MPQ[number, index]
            total = np.int32(0)
            for column in range(num_columns):
                total += np.int32(weights_Q[column]) * np.int32(inputs_RQ[row, column])
            sums_RN[row, index] = np.float32(np.int32(total))
    for row in range(len(inputs_RQ)):
        for index in range(num_outputs):
            sums_RN[row, index] *= model.scales_MP[number, index] * factors_R[row]
    return sums_RN


@any_order
def add_tile(weights_QP: Float, inputs_RQ: Float, num_columns: int, sums_RN: Float) -> None:
    """Multiply four rows of inputs by a matrix at once, so that each weight is loaded only once."""
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


@part
def look_up(table: Float, places_K: Float, first: np.float32) -> None:
    """Clip each index to the table, which begins at `first`. Replace the index with its entry."""
    last = first + LAST_STEP
    for index in range(len(places_K)):
        place = places_K[index] if places_K[index] > first else first  # NaN becomes `first`
        places_K[index] = table[np.uint32(place if place < last else last)]


@part
def eight_bits(values_K: Float, inputs_Q: Int16) -> np.float32:
    """Write the values to `inputs_Q`, quantized to 8 bits. Return the largest magnitude."""
    largest = max(TINY, np.abs(values_K).max())
    per_unit = LEVELS_F32 / largest
    for column in range(len(values_K)):
        inputs_Q[column] = np.int16(np.floor(values_K[column] * per_unit + HALF))
    return largest


@part
def draw(
    model: PackedModel, logits_V: Float, rules: Rules, row: int, uniform: float, utf8_R: Ids
) -> int:
    """Sample a row's next id, never an invalid UTF-8 byte. Update the row's UTF-8 state."""
    state = utf8_R[row]
    for index in range(len(logits_V)):
        if state >= 0 and model.next_SV[state, index] < 0:
            logits_V[index] = NEVER
    drawn = logits_V.argmax()
    if rules.factor_R[row] > 0:
        sums_V = relative_probabilities(logits_V, logits_V[drawn], rules, row).cumsum()
        drawn = (sums_V <= uniform * sums_V[-1]).sum()
    if state >= 0:
        utf8_R[row] = model.next_SV[state, drawn]
    return int(drawn)


@part
def relative_probabilities(logits_V: Float, largest: np.float32, rules: Rules, row: int) -> Double:
    """Return probabilities relative to the likeliest id, with 0 for ids that the rule excludes."""
    probable_V = np.zeros(len(logits_V), np.float64)
    for index in range(len(logits_V)):
        if logits_V[index] > NEVER:
            below = np.float64(logits_V[index]) - np.float64(largest)
            steps = below * rules.factor_R[row] + FIRST_STEP
            step = np.int32(steps if steps > 0 else 0.0)
            probable = FRACTIONS[step & FRACTION_MASK] * POWERS[step >> FRACTION_BITS]
            probable_V[index] = probable if probable >= rules.min_p_R[row] else 0.0
    top_k = rules.top_k_R[row]
    if top_k < len(logits_V) or rules.top_p_R[row] < 1:
        smallest = smallest_kept(descending(probable_V), top_k, rules.top_p_R[row])
        probable_V *= probable_V >= smallest
    return probable_V


@part
def smallest_kept(sorted_V: Double, top_k: int, top_p: float) -> float:
    """Apply top-k and then top-p to descending probabilities. Return the smallest that remains."""
    smallest = sorted_V[top_k - 1]
    kept_V = sorted_V * (sorted_V >= smallest)
    sums_V = kept_V.cumsum()
    num_kept = (sums_V - kept_V < top_p * sums_V[-1]).sum()
    return max(sorted_V[num_kept - 1], smallest)


@part
def descending(values_V: Double) -> Double:
    """Sort in descending order by Shell's sort, because numba takes seconds to compile NumPy's."""
    sorted_V = values_V.copy()
    for gap in SHELL_GAPS:
        for place in range(gap, len(sorted_V)):
            value = sorted_V[place]
            left = place - gap
            while left >= 0 and sorted_V[left] < value:
                sorted_V[left + gap] = sorted_V[left]
                left -= gap
            sorted_V[left + gap] = value
    return sorted_V
