"""What machine code reads and writes: a model, rules, and memory that is written over. Nothing here needs numba.

Shapes: L layers, R rows, V vocabulary, H hidden units, G = 4H gate rows, N rows and K columns of a matrix; P the
largest number of rows of a matrix and Q of columns, both rounded up to whole blocks.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.generation.compiled.object_code import TARGET
from charlstm.generation.drawing import FRACTIONS, NEXT, POWERS
from charlstm.generation.quantized import GATES, GELU, LEVELS, TANH, Matrix, QuantizedModel

Int8 = NDArray[np.int8]
Float = NDArray[np.float32]
Double = NDArray[np.float64]
Ids = NDArray[np.int64]

LANES: Final = 8  # sums in a register
NUM_REGISTERS: Final = 4  # of sums, for each row: enough that no sum waits for the one before
BLOCK: Final = LANES * NUM_REGISTERS  # rows of a matrix at once
GROUP: Final = 4  # columns at once
SIGN: Final = -128 if TARGET.has_vnni else 0  # the bit that makes a + 128 of a


class Rules(NamedTuple):
    """As in `generation/drawing.py`, for all rows: what asks for nothing is 0, V or infinity."""

    factor_R: Double
    min_p_R: Double
    top_k_R: Ids
    top_p_R: Double
    is_greedy_R: NDArray[np.bool_]


class Matrices(NamedTuple):
    """All matrices of a model, end to end, each padded with zeros to whole blocks.

    Matrix m has `values` and rows (of `scales` and `surpluses`) from fence m to fence m + 1.
    """

    values: Int8
    scales: Float
    surpluses: NDArray[np.int32]
    value_fences: Ids
    row_fences: Ids

    @classmethod
    def of(cls, matrices: Sequence[Matrix]) -> "Matrices":
        """The same integers, in the order in which they are read here."""
        padded = [_padded(matrix.values_NK) for matrix in matrices]
        return cls(
            np.concatenate([(in_blocks(values_PQ) if TARGET.has_vnni else values_PQ).ravel() for values_PQ in padded]),
            np.concatenate([np.resize(matrix.scale_N, round_up(len(matrix.scale_N), BLOCK)) for matrix in matrices]),
            np.concatenate([values_PQ.sum(1, dtype=np.int32) * -SIGN for values_PQ in padded]),
            np.array([0, *(values_PQ.size for values_PQ in padded)]).cumsum(),
            np.array([0, *map(len, padded)]).cumsum(),
        )


def round_up(size: int, step: int) -> int:
    """To a multiple of `step`."""
    return -(-size // step) * step


def _padded(values_NK: Int8) -> Int8:
    num_rows, num_columns = values_NK.shape
    return np.pad(values_NK, ((0, -num_rows % BLOCK), (0, -num_columns % GROUP)))


def in_blocks(values_PQ: Int8) -> Int8:
    """For the instruction: block after block of rows, in each group after group of columns, in each row after row."""
    num_rows, num_columns = values_PQ.shape
    return values_PQ.reshape(num_rows // BLOCK, BLOCK, num_columns // GROUP, GROUP).swapaxes(1, 2)


class Tables(NamedTuple):
    """Of functions; as globals, they would become part of the code, which takes longer to compile."""

    gates: Float
    tanh_levels: Float
    gelu: Float


TABLES: Final = Tables(GATES, TANH * np.float32(LEVELS), GELU)


class Model(NamedTuple):
    """The matrices of the layers from the bottom, then up and down where there is a block (F > 0), then the head.

    `first_VG` is added in the first layer, a row for each character, `upper_LG` in each layer above.
    """

    tables: Tables
    matrices: Matrices
    first_VG: Float
    upper_LG: Float
    bias_V: Float
    num_inner: int

    @classmethod
    def of(cls, model: QuantizedModel) -> "Model":
        """The same numbers."""
        blocks = [model.up, model.down] if model.up and model.down else []
        upper = [layer.base_VG for layer in model.layers[1:]]
        first_VG = model.layers[0].base_VG
        return cls(
            TABLES,
            Matrices.of([*(layer.matrix for layer in model.layers), *blocks, model.head]),
            first_VG,
            np.concatenate([np.zeros((0, first_VG.shape[1]), np.float32), *upper]),
            model.bias_V,
            len(blocks[0].scale_N) if blocks else 0,
        )


class DrawingWork(NamedTuple):
    """Tables (as globals, they would take longer to compile), and memory that is written over at each character."""

    fractions: Double
    powers: Double
    next_SV: Ids
    probable_V: Double
    sorted_V: Double
    allowed_V: Float
    allowed_ids_V: Ids

    @classmethod
    def of(cls, vocab_size: int) -> "DrawingWork":
        """For one row after the other."""
        return cls(
            FRACTIONS,
            POWERS,
            NEXT,
            np.zeros(vocab_size),
            np.zeros(vocab_size),
            np.zeros(vocab_size, np.float32),
            np.zeros(vocab_size, np.int64),
        )


class Work(NamedTuple):
    """Memory that is written over at each character, for the rows of a tile."""

    inputs_RQ: Int8
    ones_R: Float
    factors_R: Float
    sums_RP: NDArray[np.int32]
    products_RP: Float
    values_P: Float
    bits_P: NDArray[np.int32]
    steps_P: NDArray[np.uint32]
    drawing: DrawingWork

    @classmethod
    def of(cls, model: Model, num_rows: int) -> "Work":
        """For so many rows."""
        sizes = np.diff(model.matrices.row_fences)
        values_P = np.zeros(sizes.max(), np.float32)
        widths = np.diff(model.matrices.value_fences) // sizes
        return cls(
            np.zeros((num_rows, widths.max()), np.int8),
            np.ones(num_rows, np.float32),
            np.ones(num_rows, np.float32),
            np.zeros((num_rows, sizes.max()), np.int32),
            np.zeros((num_rows, sizes.max()), np.float32),
            values_P,
            values_P.view(np.int32),
            np.zeros(sizes.max(), np.uint32),
            DrawingWork.of(len(model.bias_V)),
        )
