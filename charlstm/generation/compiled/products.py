"""Products of 8-bit integers in machine code, exact: by the instruction made for them, or by a plain loop.

The instruction (`vnni.py`) wants one byte of a pair unsigned: a + 128 instead of a. The surplus, 128 times the sum of a
row's weights, is subtracted in the end. Both ways give the same integers.
Shapes: R rows, K columns and N rows of a matrix; P and Q are N and K rounded up to whole blocks.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from charlstm.generation.compiled.layout import BLOCK, GROUP, Matrices
from charlstm.generation.compiled.machine_code import part
from charlstm.generation.compiled.object_code import TARGET
from charlstm.generation.compiled.vnni import multiply_block

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
