"""Reference of the compiled sampler in numpy, with int64 sums, and rules to draw by."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from charlstm.generation.kernels import (
    FIRST_STEP,
    FRACTION_BITS,
    FRACTIONS,
    LEVELS,
    MIDDLE,
    POWERS,
    STEPS_PER_UNIT,
    TABLE_LEN,
    Double,
    Float,
    Ids,
    Int8,
    Rules,
)
from charlstm.generation.quantized import GATE_TABLE, GELU, TANH, Matrix, QuantizedModel
from charlstm.generation.stepper import QuantizedState
from charlstm.sampling import Sampling
from charlstm.text.utf8 import NEXT

Bools = NDArray[np.bool_]
RULES = [
    Sampling(temperature=1.0),
    Sampling(temperature=0),
    Sampling(temperature=1e-30),
    Sampling(temperature=0.7, top_k=3),
    # The limit is above the number of bytes that are allowed within a character.
    Sampling(temperature=1.0, top_k=100),
    Sampling(temperature=0.9, top_p=0.8),
    Sampling(temperature=1.2, min_p=0.05),
    Sampling(temperature=0.8, top_k=7, top_p=0.9, min_p=0.01),
    Sampling(temperature=1e300),  # all characters are equally likely
    Sampling(temperature=1e-310, top_p=0.5),
    Sampling(temperature=0.5, top_p=1e-09),
    Sampling(temperature=2.0, top_k=1),
]


def times(matrix: Matrix, rows_RK: NDArray[Any], factor_R1: Float | None = None) -> Float:
    """Return the exact product times the scale, times a factor per row."""
    scale = matrix.scale_N if factor_R1 is None else matrix.scale_N * factor_R1
    exact_RN = rows_RK.astype(np.int64) @ matrix.values_NK.T.astype(np.int64)
    product: Float = exact_RN.astype(np.float32) * scale
    return product


def look_up(table: Float, steps: Float) -> Float:
    """Return the entries at the integer parts of `steps`, clipped to the table."""
    found: Float = table[steps.clip(0, len(table) - 1).astype(np.int64)]
    return found


def eight_bits(values_RK: Float) -> tuple[Int8, Float]:
    """Return the values rounded to 8 bits, and the largest magnitude of each row."""
    largest_R1 = np.maximum(np.abs(values_RK).max(1, keepdims=True), np.float32(1e-30))
    levels_RK = np.floor(values_RK * (np.float32(LEVELS) / largest_R1) + np.float32(0.5))
    return levels_RK.astype(np.int8), largest_R1


def read(model: QuantizedModel, ids_RT: Ids, state: QuantizedState) -> QuantizedState:
    """Return the state after reading the ids."""
    hidden_RLH = state.hidden_RLH.copy()
    cell_RLH = state.cell_RLH.copy()
    for ids_R in ids_RT.T:
        for number, layer in enumerate(model.layers):
            inputs_RK = hidden_RLH[:, max(number - 1, 0) : number + 1].reshape(len(ids_R), -1)
            base_VG = layer.base_VG
            steps_RG = times(layer.matrix, inputs_RK) + (base_VG if number else base_VG[ids_R])
            sigmoids, candidate = np.split(steps_RG, [3 * model.hidden_size], 1)
            gates = look_up(GATE_TABLE[:TABLE_LEN], sigmoids)
            input_RH, forget_RH, output_RH = np.split(gates, 3, 1)
            candidate_RH = look_up(GATE_TABLE[TABLE_LEN:], candidate - np.float32(TABLE_LEN))
            cell_RLH[:, number] = forget_RH * cell_RLH[:, number] + input_RH * candidate_RH
            tanh_steps = cell_RLH[:, number] * np.float32(STEPS_PER_UNIT) + np.float32(MIDDLE)
            tanh_RH = look_up(TANH, tanh_steps)
            levels_RH = np.floor(output_RH * (tanh_RH * np.float32(LEVELS)) + np.float32(0.5))
            hidden_RLH[:, number] = levels_RH.astype(np.int8)
    return QuantizedState(hidden_RLH, cell_RLH)


def logits(model: QuantizedModel, state: QuantizedState) -> Float:
    """Return the logits (R, V) of the next character."""
    hidden_RH = state.hidden_RLH[:, -1]
    factor_R1 = None
    if model.up and model.down:
        gelu_RF = look_up(GELU, times(model.up, hidden_RH) + np.float32(MIDDLE))
        inner_RF, factor_R1 = eight_bits(gelu_RF)
        added_RH = times(model.down, inner_RF, factor_R1)
        hidden_RH, factor_R1 = eight_bits(hidden_RH * np.float32(1 / LEVELS) + added_RH)
    logits_RV: Float = times(model.head, hidden_RH, factor_R1) + model.bias_V
    return logits_RV


def relative_probabilities(logits_RV: Float, rules: Rules) -> Double:
    """Return the distributions (R, V) after the rules, relative to the likeliest character."""
    below_RV = logits_RV.astype(np.float64) - logits_RV.astype(np.float64).max(1, keepdims=True)
    steps_RV = np.maximum(below_RV * rules.factor_R[:, None] + FIRST_STEP, 0).astype(np.int32)
    probable_RV = FRACTIONS[steps_RV & (2**FRACTION_BITS - 1)] * POWERS[steps_RV >> FRACTION_BITS]
    probable_RV *= probable_RV >= rules.min_p_R[:, None]
    sorted_RV = np.sort(probable_RV, 1)[:, ::-1]
    top_k_R1 = np.minimum(rules.top_k_R, logits_RV.shape[1])[:, None]
    smallest_R1 = np.take_along_axis(sorted_RV, top_k_R1 - 1, 1)
    probable_RV *= probable_RV >= smallest_R1
    sorted_RV = sorted_RV * (sorted_RV >= smallest_R1)
    sums_RV = sorted_RV.cumsum(1)
    is_kept_RV = sums_RV - sorted_RV < rules.top_p_R[:, None] * sums_RV[:, -1:]
    num_kept_R1 = is_kept_RV.sum(1, keepdims=True)
    last_R1 = np.take_along_axis(sorted_RV, num_kept_R1 - 1, 1)
    kept_RV: Double = probable_RV * (probable_RV >= last_R1)
    return kept_RV


def draw(
    logits_RV: Float, rules: Rules, uniforms_R: Double, allowed_RV: Bools | None = None
) -> Ids:
    """Return the ids (R,) of one drawn character per row, among the allowed ids."""
    if allowed_RV is None:
        allowed_RV = np.ones(logits_RV.shape, bool)
    drawn = []
    for row, logits_V in enumerate(logits_RV):
        allowed_V = np.flatnonzero(allowed_RV[row])
        rule = rules.rows([row])
        some_1V = logits_V[None, allowed_V]
        sums_V = relative_probabilities(some_1V, rule).cumsum(1)[0]
        index = (
            some_1V.argmax()
            if rule.factor_R[0] == 0
            else (sums_V <= uniforms_R[row] * sums_V[-1]).sum()
        )
        drawn.append(allowed_V[index])
    return np.array(drawn)


def write(
    model: QuantizedModel,
    state: QuantizedState,
    rules: Rules,
    uniforms_RT: Double,
    utf8_R: Ids | None = None,
) -> tuple[Ids, QuantizedState]:
    """Return the next ids (R, T), and the state after reading them."""
    written = []
    for uniforms_R in uniforms_RT.T:
        allowed_RV = None if utf8_R is None else NEXT[utf8_R] >= 0
        ids_R = draw(logits(model, state), rules, uniforms_R, allowed_RV)
        utf8_R = None if utf8_R is None else NEXT[utf8_R, ids_R]
        state = read(model, ids_R[:, None], state)
        written.append(ids_R)
    return np.stack(written, 1), state
