"""What `generation/stepper.py` computes, to the bit, in machine code: one call for many characters of some rows.

The equations are in `quantized.py`. Constants are of float32, as numba would go on in float64 otherwise.

Shapes: L layers, R rows, T characters, V vocabulary, H hidden units, G = 4H gate rows, F inner features of the block,
P the largest number of rows of a matrix and Q of columns, both rounded up to whole blocks.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from charlstm.generation.compiled.drawing import draw, draw_utf8
from charlstm.generation.compiled.layout import (
    BLOCK,
    GROUP,
    LANES,
    NUM_REGISTERS,
    SIGN,
    Double,
    Float,
    Ids,
    Int8,
    Matrices,
    Model,
    Rules,
    Tables,
    Work,
)
from charlstm.generation.compiled.machine_code import inlined, part
from charlstm.generation.compiled.object_code import TARGET
from charlstm.generation.quantized import LEVELS, MIDDLE, STEPS_PER_UNIT, TABLE_LEN, TINY

# The processor's instruction for products of bytes, within code that numba compiles.
#
# Processors with VNNI multiply 32 pairs of bytes and add them to 8 sums of 32 bits in one instruction, `vpdpbusd`. No
# loop in Python becomes it, so this builds the loop in LLVM's language, once for each number of rows.


def _multiply_block(typing_context: Any, num_rows: Any, weights: Any, num_groups: Any, inputs: Any, sums: Any) -> Any:
    """A block of a matrix, at the start of `weights`, times the first rows of `inputs`: into the first of `sums`.

    The compiler keeps `totals` in registers: they are memory only by name.
    """
    if not isinstance(num_rows, types.IntegerLiteral):
        return None  # numba asks again, with the number itself
    array_types = weights, inputs, sums

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        int32, vector = ir.IntType(32), ir.VectorType(ir.IntType(32), LANES)
        zeros, blank = ir.Constant(vector, [0] * LANES), ir.Constant(vector, ir.Undefined)
        _, weights, num_groups, inputs, sums = arguments
        arrays = zip(array_types, (weights, inputs, sums), strict=True)
        weights, inputs, sums = (context.make_array(type_)(context, builder, array) for type_, array in arrays)
        name, kind = f"llvm.x86.avx512.vpdpbusd.{32 * LANES}", ir.FunctionType(vector, [vector] * 3)
        add_products = cgutils.get_or_insert_function(builder.module, kind, name)

        def pointer(array: Any, row: int, offset: Any, type_: Any) -> Any:
            stride = builder.extract_value(array.strides, 0)
            place = builder.add(builder.mul(stride, stride.type(row)), offset)
            start = builder.bitcast(array.data, ir.IntType(8).as_pointer())
            return builder.bitcast(builder.gep(start, [place]), type_.as_pointer())

        rows, registers = range(num_rows.literal_value), range(NUM_REGISTERS)
        totals = [[cgutils.alloca_once_value(builder, zeros) for _ in registers] for _ in rows]
        with cgutils.for_range(builder, num_groups) as loop:
            number, size = loop.index, loop.index.type
            starts = [builder.add(builder.mul(number, size(BLOCK * GROUP)), size(LANES * GROUP * n)) for n in registers]
            loaded = [builder.load(pointer(weights, 0, start, vector), align=1) for start in starts]
            for row in rows:
                group = builder.load(pointer(inputs, row, builder.mul(number, size(GROUP)), int32), align=1)
                in_one_lane = builder.insert_element(blank, group, int32(0))
                in_all_lanes = builder.shuffle_vector(in_one_lane, blank, zeros)
                for total, eight_rows in zip(totals[row], loaded, strict=True):
                    builder.store(builder.call(add_products, [builder.load(total), in_all_lanes, eight_rows]), total)
        for row in rows:
            for n, total in zip(registers, totals[row], strict=True):
                builder.store(builder.load(total), pointer(sums, row, size(LANES * 4 * n), vector), align=1)
        return context.get_dummy_value()

    return types.void(num_rows, weights, types.intp, inputs, sums), generate


multiply_block: Final[Any] = intrinsic(_multiply_block)


# Products of 8-bit integers in machine code, exact: by the instruction made for them, or by a plain loop.
#
# The instruction above wants one byte of a pair unsigned: a + 128 instead of a. The surplus, 128 times the sum of a
# row's weights, is subtracted in the end. Both ways give the same integers.
# Shapes: R rows, K columns and N rows of a matrix; P and Q are N and K rounded up to whole blocks.

TILE: Final = 4  # rows at once: a weight is loaded once for all of them


@part
def add_by_loop(
    values: NDArray[np.int8], num_rows: int, inputs_RQ: NDArray[np.int8], sums_RP: NDArray[np.int32]
) -> None:
    """Plainly. The compiler makes `vpmaddwd` of it, or what other processors have."""
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
    """By the instruction: tiles of rows, then single ones."""
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
    """The same for float32, rounded to 8 bits; their largest magnitude, the factor that undoes it.

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
def read_one(model: Model, ids_RT: Ids, position: int, hidden_RLH: Int8, cell_RLH: Float, work: Work) -> None:
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
    """One layer and row: c = f c + i g, h = o tanh(c)."""
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
def logits(model: Model, hidden_RLH: Int8, work: Work) -> None:
    """Of the next character, without the bias, in `products_RP`: W_head (h + W_down gelu(W_up h))."""
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


@part
def advance(
    model: Model,
    rules: Rules,
    uniforms_RT: Double,
    ids_RT: Ids,
    num_given: int,
    hidden_RLH: Int8,
    cell_RLH: Float,
    utf8_R: Ids,
    work: Work,
) -> None:
    """Read the first `num_given` of `ids_RT`; draw the others, and read them, too. The states change in place.

    Those of `utf8_R` are states of `utf8.py`, below 0 where ids are no bytes of UTF-8.
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
                    ids_RT[row, position] = draw_utf8(logits_V, rules, row, uniform, utf8_R, work.drawing)
                else:
                    ids_RT[row, position] = draw(logits_V, rules, row, uniform, work.drawing)
        read_one(model, ids_RT, position, hidden_RLH, cell_RLH, work)
