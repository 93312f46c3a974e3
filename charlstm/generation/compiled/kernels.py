"""The computations of `Stepper` and `drawing.py`, to the bit, in machine code: one call for many characters and rows.

The equations are in `quantized.py`. Constants are of float32, as numba would go on in float64 otherwise.

Shapes: L layers, R rows, T characters, V vocabulary, H hidden units, G = 4H gate rows, N rows and K columns of a
matrix; P the largest number of rows of a matrix and Q of columns, both rounded up to whole blocks.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from charlstm.generation.compiled.machine_code import inlined, multiply_block, part
from charlstm.generation.compiled.object_code import TARGET
from charlstm.generation.compiled.stepper import BLOCK, GROUP, SIGN, Int8, Matrices, PackedModel, Tables, Work
from charlstm.generation.drawing import FIRST_STEP, FRACTION_BITS, Double, Float, Ids, Rules
from charlstm.generation.quantized import LEVELS, MIDDLE, STEPS_PER_UNIT, TABLE_LEN, TINY

# Products of 8-bit integers in machine code, exact: by the instruction made for them, or by a plain loop.
#
# `multiply_block` wants one byte of a pair unsigned: a + 128 instead of a. The surplus, 128 times the sum of a
# row's weights, is subtracted in the end. Both ways give the same integers.

TILE: Final = 4  # rows at once: a weight is loaded once for all of them


@part
def add_by_loop(
    values: NDArray[np.int8], num_rows: int, inputs_RQ: NDArray[np.int8], sums_RP: NDArray[np.int32]
) -> None:
    """Multiply by a plain loop. The compiler makes `vpmaddwd` of it, or what other processors have."""
    values_PQ = values.reshape((num_rows, len(values) // num_rows))
    for index in range(num_rows):
        for row in range(len(inputs_RQ)):
            total = np.int32(0)
            for column in range(values_PQ.shape[1]):
                total += np.int32(values_PQ[index, column]) * np.int32(inputs_RQ[row, column])
            sums_RP[row, index] = total


@part
def add_by_vnni(
    values: NDArray[np.int8], num_rows: int, inputs_RQ: NDArray[np.int8], sums_RP: NDArray[np.int32]
) -> None:
    """Multiply by the instruction for 8-bit integers: tiles of rows, then single ones."""
    num_groups = len(values) // num_rows // GROUP
    for block in range(num_rows // BLOCK):
        weights = values[block * BLOCK * GROUP * num_groups :]
        row = 0
        while row < len(inputs_RQ):
            inputs, sums = inputs_RQ[row:], sums_RP[row:, block * BLOCK :]
            if len(inputs) >= TILE:
                multiply_block(TILE, weights, num_groups, inputs, sums)
                row += TILE
            else:
                multiply_block(1, weights, num_groups, inputs, sums)
                row += 1


add_products = add_by_vnni if TARGET.has_vnni else add_by_loop


@part
def multiply(
    matrices: Matrices,
    number: int,
    inputs_RQ: NDArray[np.int8],
    factors_R: NDArray[np.float32],
    sums_RP: NDArray[np.int32],
    products_RP: NDArray[np.float32],
) -> None:
    """Matrix `number` times each row, times the scale, times the row's factor. `inputs_RQ` have `SIGN` flipped."""
    first, last = matrices.row_fences[number], matrices.row_fences[number + 1]
    values = matrices.values[matrices.value_fences[number] : matrices.value_fences[number + 1]]
    scales_P, surpluses_P = matrices.scales[first:last], matrices.surpluses[first:last]
    add_products(values, len(scales_P), inputs_RQ, sums_RP)
    for row in range(len(inputs_RQ)):
        for index in range(len(scales_P)):
            exact = np.float32(np.int32(sums_RP[row, index] - surpluses_P[index]))
            products_RP[row, index] = exact * (scales_P[index] * factors_R[row])


# Reading, and logits.

ZERO: Final = np.float32(0)
HALF: Final = np.float32(0.5)
LAST_STEP: Final = np.float32(TABLE_LEN - 1)
BITS_OF_TINY: Final = np.float32(TINY).view(np.int32)
WITHOUT_SIGN: Final = np.int32(2**31 - 1)
ONE_LEVEL: Final = np.float32(1 / LEVELS)
NUM_LEVELS: Final = np.float32(LEVELS)
UNIT: Final = np.float32(STEPS_PER_UNIT)
FIRST_OF_TANH: Final = np.float32(TABLE_LEN)
CENTER: Final = np.float32(MIDDLE)


@part
def look_up(table: Float, values_K: Float, first: np.float32, steps_P: NDArray[np.uint32]) -> None:
    """Entries of a table instead of their places, which are kept within `TABLE_LEN` from `first` on."""
    last = first + LAST_STEP
    for index in range(len(values_K)):
        step = values_K[index] if values_K[index] > first else first  # also if it is not a number
        steps_P[index] = np.uint32(step if step < last else last)
    for index in range(len(values_K)):  # apart, as processors do the loop above for many at once
        values_K[index] = table[steps_P[index]]


@part
def load(inputs_Q: Int8, start: int, activations_K: Int8) -> None:
    """Put activations where `multiply` reads them, from `start` on."""
    for column in range(len(activations_K)):
        inputs_Q[start + column] = activations_K[column] ^ SIGN


@part
def load_eight_bits(inputs_Q: Int8, values_K: Float, bits_K: NDArray[np.int32]) -> np.float32:
    """Put float32 values in 8 bits where `multiply` reads them; their largest magnitude, the factor that undoes it.

    `bits_K` is the memory of `values_K` as integers.
    """
    largest_bits = BITS_OF_TINY
    for column in range(len(values_K)):  # positive floats have the order of their bits, and integers compare faster
        bits = bits_K[column] & WITHOUT_SIGN
        largest_bits = bits if bits > largest_bits else largest_bits
    largest = np.int32(largest_bits).view(np.float32)
    per_unit = NUM_LEVELS / largest
    for column in range(len(values_K)):
        inputs_Q[column] = np.int8(np.floor(values_K[column] * per_unit + HALF)) ^ SIGN
    return largest


@inlined
def read_one(model: PackedModel, ids_RT: Ids, position: int, hidden_RLH: Int8, cell_RLH: Float, work: Work) -> None:
    """Read one character in each row."""
    num_rows, num_layers, hidden_size = hidden_RLH.shape
    for layer in range(num_layers):
        for row in range(num_rows):
            if layer > 0:
                load(work.inputs_RQ[row], 0, hidden_RLH[row, layer - 1])
            load(work.inputs_RQ[row], hidden_size if layer > 0 else 0, hidden_RLH[row, layer])
        multiply(model.matrices, layer, work.inputs_RQ, work.ones_R, work.sums_RP, work.products_RP)
        for row in range(num_rows):
            base_G = model.upper_LG[layer - 1] if layer > 0 else model.first_VG[ids_RT[row, position]]
            steps_G = work.products_RP[row, : 4 * hidden_size]
            gate(model.tables, steps_G, base_G, hidden_RLH[row, layer], cell_RLH[row, layer], work)


@inlined
def gate(tables: Tables, steps_G: Float, base_G: Float, hidden_H: Int8, cell_H: Float, work: Work) -> None:
    """Update one layer and row: c = f c + i g, h = o tanh(c)."""
    size = len(hidden_H)
    for index in range(4 * size):
        steps_G[index] += base_G[index]
    look_up(tables.gates, steps_G[: 3 * size], ZERO, work.steps_P)
    look_up(tables.gates, steps_G[3 * size :], FIRST_OF_TANH, work.steps_P)
    input_H, forget_H, output_H, candidate_H = steps_G[:size], steps_G[size:], steps_G[2 * size :], steps_G[3 * size :]
    for unit in range(size):
        cell_H[unit] = forget_H[unit] * cell_H[unit] + input_H[unit] * candidate_H[unit]
        work.values_P[unit] = cell_H[unit] * UNIT + CENTER
    look_up(tables.tanh_levels, work.values_P[:size], ZERO, work.steps_P)
    for unit in range(size):
        hidden_H[unit] = np.int8(np.floor(output_H[unit] * work.values_P[unit] + HALF))


@inlined
def logits(model: PackedModel, hidden_RLH: Int8, work: Work) -> None:
    """Put the next character's logits, without the bias, in `products_RP`: W_head (h + W_down gelu(W_up h))."""
    num_rows, num_layers, hidden_size = hidden_RLH.shape
    matrices, head = model.matrices, len(model.matrices.row_fences) - 2
    for row in range(num_rows):
        load(work.inputs_RQ[row], 0, hidden_RLH[row, -1])
    factors_R = work.ones_R
    if model.num_inner > 0:
        multiply(matrices, head - 2, work.inputs_RQ, work.ones_R, work.sums_RP, work.products_RP)
        factors_R = work.factors_R
        for row in range(num_rows):
            for inner in range(model.num_inner):
                work.values_P[inner] = work.products_RP[row, inner] + CENTER
            look_up(model.tables.gelu, work.values_P[: model.num_inner], ZERO, work.steps_P)
            factors_R[row] = load_eight_bits(work.inputs_RQ[row], work.values_P[: model.num_inner], work.bits_P)
        multiply(matrices, head - 1, work.inputs_RQ, factors_R, work.sums_RP, work.products_RP)
        for row in range(num_rows):
            for unit in range(hidden_size):
                value = np.float32(hidden_RLH[row, -1, unit]) * ONE_LEVEL
                work.values_P[unit] = value + work.products_RP[row, unit]
            factors_R[row] = load_eight_bits(work.inputs_RQ[row], work.values_P[:hidden_size], work.bits_P)
    multiply(matrices, head, work.inputs_RQ, factors_R, work.sums_RP, work.products_RP)


# Drawing: what `generation/drawing.py` computes, for one row.

FRACTION_MASK: Final = 2**FRACTION_BITS - 1
MAX_RANKED: Final = 256
GAPS: Final = np.array([1750, 701, 301, 132, 57, 23, 10, 4, 1])  # of Shell's sort (Ciura 2001)


@part
def draw(logits_V: Float, rules: Rules, row: int, uniform: float, tables: Tables, work: Work) -> int:
    """The id of one character, by the rule of `row`."""
    likeliest = 0
    for index in range(len(logits_V)):
        if logits_V[index] > logits_V[likeliest]:
            likeliest = index
    if rules.is_greedy_R[row]:
        return likeliest
    relative_probabilities(logits_V, logits_V[likeliest], rules, row, tables, work)
    total = 0.0
    for index in range(len(logits_V)):
        total += work.probable_V[index]
    bound, sum_so_far, drawn = uniform * total, 0.0, 0
    for index in range(len(logits_V)):
        sum_so_far += work.probable_V[index]
        drawn += sum_so_far <= bound
    return drawn


@inlined
def draw_utf8(logits_V: Float, rules: Rules, row: int, uniform: float, utf8_R: Ids, tables: Tables, work: Work) -> int:
    """Draw from only the bytes that keep the text of `row` valid UTF-8; its state in `utf8_R` changes.

    They are drawn from as if there were no others: zeros would change no sum.
    """
    state, num_allowed = utf8_R[row], 0
    for index in range(len(logits_V)):
        if tables.next_SV[state, index] >= 0:
            work.allowed_V[num_allowed] = logits_V[index]
            work.allowed_ids_V[num_allowed] = index
            num_allowed += 1
    drawn: int = work.allowed_ids_V[draw(work.allowed_V[:num_allowed], rules, row, uniform, tables, work)]
    utf8_R[row] = tables.next_SV[state, drawn]
    return drawn


@inlined
def relative_probabilities(logits_V: Float, largest: float, rules: Rules, row: int, tables: Tables, work: Work) -> None:
    """Put relative probabilities in `probable_V`: 2^x from tables, and zeros instead of what the rule excludes."""
    vocab_size = len(logits_V)
    probable_V, top_k = work.probable_V[:vocab_size], min(rules.top_k_R[row], vocab_size)
    for index in range(vocab_size):
        below = np.float64(logits_V[index]) - np.float64(largest)
        steps = below * rules.factor_R[row] + FIRST_STEP
        step = np.int32(steps if steps > 0 else 0.0)
        probable = tables.fractions[step & FRACTION_MASK] * tables.powers[step >> FRACTION_BITS]
        probable_V[index] = probable if probable >= rules.min_p_R[row] else 0.0
    if top_k < vocab_size or rules.top_p_R[row] < 1:
        smallest = smallest_kept(probable_V, top_k, rules.top_p_R[row], work.sorted_V[:vocab_size])
        for index in range(vocab_size):
            if probable_V[index] < smallest:
                probable_V[index] = 0.0


@inlined
def smallest_kept(probable_V: Double, top_k: int, top_p: float, sorted_V: Double) -> float:
    """The smallest value that top-k and then top-p keep."""
    if len(probable_V) <= MAX_RANKED:
        sort_by_rank(probable_V, sorted_V)
    else:
        sort_by_gaps(probable_V, sorted_V)
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


@part
def sort_by_rank(values_V: Double, sorted_V: Double) -> None:
    """The largest first; none is negative. Put each after all that are larger: V^2 comparisons, but many at a time."""
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
    """Sort by Shell's sort, the largest first."""
    for index in range(len(values_V)):
        sorted_V[index] = values_V[index]
    for gap in GAPS:
        for place in range(gap, len(sorted_V)):
            value, left = sorted_V[place], place - gap
            while left >= 0 and sorted_V[left] < value:
                sorted_V[left + gap] = sorted_V[left]
                left -= gap
            sorted_V[left + gap] = value


# All of it.


@part
def advance(
    model: PackedModel,
    rules: Rules,
    uniforms_RT: Double,
    num_given: int,
    ids_RT: Ids,
    hidden_RLH: Int8,
    cell_RLH: Float,
    utf8_R: Ids,
    work: Work,
) -> None:
    """Read the first `num_given` of `ids_RT`; draw the others, and read them, too. The states change in place.

    Those of `utf8_R` are states of `drawing.NEXT`, below 0 where ids are no bytes of UTF-8.
    """
    num_rows, num_chars = ids_RT.shape
    vocab_size = len(model.bias_V)
    for position in range(num_chars):
        if position >= num_given:
            logits(model, hidden_RLH, work)
            for row in range(num_rows):
                logits_V = work.products_RP[row, :vocab_size]
                for index in range(vocab_size):
                    logits_V[index] += model.bias_V[index]
                uniform = uniforms_RT[row, position - num_given]
                if utf8_R[row] >= 0:
                    ids_RT[row, position] = draw_utf8(logits_V, rules, row, uniform, utf8_R, model.tables, work)
                else:
                    ids_RT[row, position] = draw(logits_V, rules, row, uniform, model.tables, work)
        read_one(model, ids_RT, position, hidden_RLH, cell_RLH, work)
