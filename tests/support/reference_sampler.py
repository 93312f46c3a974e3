"""What the compiled sampler is held to: the equations of `quantized.py` in numpy, with sums of int64."""

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
    Bools,
    Double,
    Float,
    Ids,
    Int8,
    Rules,
)
from charlstm.generation.quantized import GATE_TABLE, GELU, TANH, Matrix, QuantizedModel
from charlstm.generation.stepper import QuantizedState
from charlstm.text.utf8 import NEXT


def times(matrix: Matrix, rows_RK: NDArray[Any], factor_R1: Float | None = None) -> Float:
    """The exact product, times the scale, times a factor for each row."""
    scale = matrix.scale_N if factor_R1 is None else matrix.scale_N * factor_R1
    product: Float = (rows_RK.astype(np.int64) @ matrix.values_NK.T.astype(np.int64)).astype(
        np.float32
    ) * scale
    return product


def look_up(table: Float, steps: Float) -> Float:
    """Entries at the whole parts of steps, kept in range."""
    found: Float = table[steps.clip(0, len(table) - 1).astype(np.int64)]
    return found


def eight_bits(values_RK: Float) -> tuple[Int8, Float]:
    """Rounded, and the largest magnitude of each row."""
    largest_R1 = np.maximum(np.abs(values_RK).max(1, keepdims=True), np.float32(1e-30))
    levels_RK = np.floor(values_RK * (np.float32(LEVELS) / largest_R1) + np.float32(0.5))
    return levels_RK.astype(np.int8), largest_R1


def read(model: QuantizedModel, ids_RT: Ids, state: QuantizedState) -> QuantizedState:
    """The state after reading."""
    hidden_RLH, cell_RLH = state.hidden_RLH.copy(), state.cell_RLH.copy()
    for ids_R in ids_RT.T:
        for number, layer in enumerate(model.layers):
            inputs_RK = hidden_RLH[:, max(number - 1, 0) : number + 1].reshape(len(ids_R), -1)
            base_VG = layer.base_VG
            steps_RG = times(layer.matrix, inputs_RK) + (base_VG if number else base_VG[ids_R])
            sigmoids, candidate = np.split(steps_RG, [3 * model.hidden_size], 1)
            input_RH, forget_RH, output_RH = np.split(
                look_up(GATE_TABLE[:TABLE_LEN], sigmoids), 3, 1
            )
            candidate_RH = look_up(GATE_TABLE[TABLE_LEN:], candidate - np.float32(TABLE_LEN))
            cell_RLH[:, number] = forget_RH * cell_RLH[:, number] + input_RH * candidate_RH
            tanh_RH = look_up(
                TANH, cell_RLH[:, number] * np.float32(STEPS_PER_UNIT) + np.float32(MIDDLE)
            )
            levels_RH = np.floor(output_RH * (tanh_RH * np.float32(LEVELS)) + np.float32(0.5))
            hidden_RLH[:, number] = levels_RH.astype(np.int8)
    return QuantizedState(hidden_RLH, cell_RLH)


def logits(model: QuantizedModel, state: QuantizedState) -> Float:
    """Logits (R, V) of the next character."""
    hidden_RH, factor_R1 = state.hidden_RLH[:, -1], None
    if model.up and model.down:
        inner_RF, factor_R1 = eight_bits(
            look_up(GELU, times(model.up, hidden_RH) + np.float32(MIDDLE))
        )
        added_RH = times(model.down, inner_RF, factor_R1)
        hidden_RH, factor_R1 = eight_bits(hidden_RH * np.float32(1 / LEVELS) + added_RH)
    logits_RV: Float = times(model.head, hidden_RH, factor_R1) + model.bias_V
    return logits_RV


def relative_probabilities(logits_RV: Float, rules: Rules) -> Double:
    """What the rules make of the logits, relative to the likeliest."""
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
    num_kept_R1 = (sums_RV - sorted_RV < rules.top_p_R[:, None] * sums_RV[:, -1:]).sum(
        1, keepdims=True
    )
    kept_RV: Double = probable_RV * (
        probable_RV >= np.take_along_axis(sorted_RV, num_kept_R1 - 1, 1)
    )
    return kept_RV


def draw(
    logits_RV: Float, rules: Rules, uniforms_R: Double, allowed_RV: Bools | None = None
) -> Ids:
    """Ids (R,) of one character a row, of those that are allowed."""
    drawn = []
    for row, logits_V in enumerate(logits_RV):
        allowed_V = (
            np.arange(len(logits_V)) if allowed_RV is None else np.flatnonzero(allowed_RV[row])
        )
        rule, some_1V = rules.rows([row]), logits_V[None, allowed_V]
        sums_V = relative_probabilities(some_1V, rule).cumsum(1)[0]
        index = (
            some_1V.argmax()
            if rule.is_greedy_R[0]
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
    """The next ids (R, T), and the state after them."""
    written = []
    for uniforms_R in uniforms_RT.T:
        allowed_RV = None if utf8_R is None else NEXT[utf8_R] >= 0
        ids_R = draw(logits(model, state), rules, uniforms_R, allowed_RV)
        utf8_R = None if utf8_R is None else NEXT[utf8_R, ids_R]
        state = read(model, ids_R[:, None], state)
        written.append(ids_R)
    return np.stack(written, 1), state
