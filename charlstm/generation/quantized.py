"""Model in 8-bit integers, with the same results on every machine and in every batch.

A sum of floats depends on the order of the additions, and so on the processor, the batch, the
threads and the library. A sum of integers does not. Therefore weights and activations are rounded
to 8 bits before each product. All other steps use only operations that every machine rounds
identically (IEEE 754's +, -, * and /, one at a time, in float32), and lookup tables for functions.
Both `kernels.py` and the review page's JavaScript compute with this model.

    weights of row n           q_n = round(W_n / s_n), from -127 to 127, with s_n = max|W_n| / 127
    hidden state h in (-1, 1)  a = round(127 h)
    other activations x        a = round(127 / m * x), with m = max|x| over a row's features
    matrix product             W_n x ~ s_n / 127 * m * sum_k q_nk a_k, where the sum is exact
    function of g              TABLE[round(256 g) + 4096]

Here round(x) is floor(x + 1/2). Per-row scales: Wu et al. 2020 (arXiv 2004.09602).
Shapes: V vocabulary, E embedding features, H hidden units, G = 4H gate rows, N rows and K columns
of a matrix.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charlstm.generation.kernels import LEVELS, MIDDLE, STEPS_PER_UNIT, TABLE_LEN, Float, Int8
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.layers import stacked

# Smallest unit of `fixed_VG`, in table steps.
# Adding a multiple of this unit to a table index is exact in float32.
FINEST: Final = 2.0**-8
# The three sigmoid gates come first, so that the rows of each function are adjacent.
TABLE_GATES: Final = ("input_gate", "forget_gate", "output_gate", "candidate")


class Matrix(NamedTuple):
    """Weight matrix in int8, with the float32 factors that convert integer sums to floats."""

    values_NK: Int8
    scale_N: Float


class Layer(NamedTuple):
    """Quantized LSTM layer with its gates stacked in the order of TABLE_GATES.

    `matrix` has the shape (G, H) in the first layer and (G, 2H) in the layers above, where the
    columns for the input come first. Its scale converts sums to indices into GATE_TABLE. `fixed_VG`
    is the term that is added to these indices, in multiples of `unit`, a power of 2. `fixed_VG` has
    a row for each character in the first layer, and a single row in the layers above. Its 16-bit
    integers halve the size of a review page, and their products with `unit` are exact.
    """

    matrix: Matrix
    fixed_VG: NDArray[np.int16]
    unit: float

    @property
    def base_VG(self) -> Float:
        """Term that is added to a scaled matrix product to get indices into GATE_TABLE."""
        size = self.fixed_VG.shape[1] // 4
        middle_G = np.repeat([MIDDLE, MIDDLE + TABLE_LEN], [3 * size, size])
        base_VG: Float = (self.fixed_VG * self.unit + middle_G).astype(np.float32)
        return base_VG


class QuantizedModel(NamedTuple):
    """Quantized model. `up` and `down` are None if the model has no feed-forward block."""

    layers: list[Layer]
    up: Matrix | None
    down: Matrix | None
    head: Matrix
    bias_V: Float
    hidden_size: int

    @property
    def matrices(self) -> list[Matrix]:
        """All matrices, in order of use: layers, feed-forward block (if any), head."""
        block = [self.up, self.down] if self.up and self.down else []
        return [*(layer.matrix for layer in self.layers), *block, self.head]


def quantize(model: CharLSTM) -> QuantizedModel:
    """Return the quantized model. Equal weights give equal integers on every machine."""
    weights = {name: weight.cpu().float() for name, weight in model.state_dict().items()}
    layers: list[Layer] = []
    for number in range(model.shape.num_layers):
        from_input, from_hidden, bias = (
            stacked(weights, number, part, TABLE_GATES).numpy()
            for part in ("from_input.weight", "from_hidden.weight", "from_input.bias")
        )
        base_VG = bias[None].astype(np.float64)
        columns = [from_input, from_hidden]
        if number == 0:  # the first layer's product with each character is computed in advance
            base_VG = base_VG + _product(weights["embedding.weight"].numpy(), from_input)
            columns = [from_hidden]
        matrix = _rounded(np.concatenate(columns, 1), STEPS_PER_UNIT / LEVELS)
        layers.append(Layer(matrix, *_fixed_point(base_VG * STEPS_PER_UNIT)))

    up = down = None
    if model.shape.feed_forward_size:
        up = _rounded(weights["feed_forward.up.weight"].numpy(), STEPS_PER_UNIT / LEVELS)
        down = _rounded(weights["feed_forward.down.weight"].numpy(), 1 / LEVELS)
    head = _rounded(weights["head.weight"].numpy(), 1 / LEVELS)
    bias_V = weights["head.bias"].numpy().copy()
    return QuantizedModel(layers, up, down, head, bias_V, model.shape.hidden_size)


def _rounded(weight_NK: Float, factor: float) -> Matrix:
    """Return the matrix rounded to 8 bits. Each row's scale is its rounding step times `factor`."""
    largest_N = np.abs(weight_NK).max(1)
    step_N = np.where(largest_N > 0, largest_N / np.float32(LEVELS), np.float32(1))
    values_NK = np.floor(weight_NK / step_N[:, None] + np.float32(0.5)).clip(-LEVELS, LEVELS)
    return Matrix(values_NK.astype(np.int8), step_N * np.float32(factor))


def _fixed_point(steps_VG: NDArray[np.float64]) -> tuple[NDArray[np.int16], float]:
    """Return the values as 16-bit multiples of the smallest possible unit, and return the unit."""
    unit = max(2.0 ** (math.frexp(float(np.abs(steps_VG).max()))[1] - 15), FINEST)
    fixed_VG = np.floor(steps_VG / unit + 0.5).clip(-(2**15) + 1, 2**15 - 1)
    return fixed_VG.astype(np.int16), unit


def _product(rows_VE: Float, weight_GE: Float) -> NDArray[np.float64]:
    """Return `rows @ weight.T`, summed in a fixed order in float64, where products are exact."""
    total_VG = np.zeros((len(rows_VE), len(weight_GE)))
    for row_V, row_G in zip(rows_VE.T.astype(np.float64), weight_GE.T, strict=True):
        total_VG += np.outer(row_V, row_G)
    return total_VG


def _table(values: NDArray[np.float64]) -> Float:
    """Round to 15 binary places, so that math libraries agree even if their last bits differ."""
    return (np.floor(values * 2**15 + 0.5) / 2**15).astype(np.float32)


ARGUMENTS: Final = (np.arange(TABLE_LEN) - TABLE_LEN // 2) / STEPS_PER_UNIT
SIGMOID: Final = _table(1 / (1 + np.exp(-ARGUMENTS)))
TANH: Final = _table(np.tanh(ARGUMENTS))
GATE_TABLE: Final = np.concatenate([SIGMOID, TANH])  # tanh is for the candidate
GELU: Final = _table(np.array([x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in ARGUMENTS]))
