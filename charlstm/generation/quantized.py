"""A model in 8-bit integers, whose results are the same to the bit on any machine, in any batch, in any language.

A sum of floats depends on the order in which a processor adds: on the batch, the threads and the library. A sum of
integers does not. So weights and activations are rounded to 8 bits before each product. What follows a product uses
only operations that every machine rounds alike (IEEE 754's +, -, * and /, one at a time, in float32), and tables of
functions. `kernels.py` computes with it, and the review page in JavaScript.

    weights of row n             q_n = round(W_n / s_n), from -127 to 127, with s_n = max|W_n| / 127
    hidden state h in (-1, 1)    a = round(127 h)
    other activations x          a = round(127 / m * x), with m = max|x| over the features of a row and step
    a product                    W_n x ~ s_n / 127 * m * sum_k q_nk a_k; the sum is exact
    a function of g              TABLE[round(256 g) + 4096]

Here round(x) is floor(x + 1/2). Per-row scales: Wu et al. 2020 (arXiv 2004.09602).
Shapes: V vocabulary, E embedding features, H hidden units, G = 4H gate rows, N rows and K columns of a matrix.
"""

import math
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.generation.kernels import LEVELS, MIDDLE, STEPS_PER_UNIT, TABLE_LEN, Float, Int8
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.layers import stacked

FINEST: Final = 2.0**-8  # of a step; float32 adds such parts to an index without rounding
TABLE_GATES: Final = (
    "input_gate",
    "forget_gate",
    "output_gate",
    "candidate",
)  # those of one function together


class Matrix(NamedTuple):
    """A weight matrix: `values_NK` int8, and `scale_N` float32, which turns a row's integer sum into what is used."""

    values_NK: Int8
    scale_N: Float


class Layer(NamedTuple):
    """An LSTM layer, its gates stacked as input, forget, output, candidate: those of one function together.

    `matrix` is (G, H) in the first layer and (G, 2H) above, columns of the input first; its scale leads to indices of
    `GATES`. `base_VG` is added to them: a row for each character in the first layer, one row above. It is kept as
    `fixed_VG`, int16, in units of `unit`, a power of 2: a page has it in half the bytes, and no product is rounded.
    """

    matrix: Matrix
    fixed_VG: NDArray[np.int16]
    unit: float

    @property
    def base_VG(self) -> Float:
        """The term that is added to a product, with the index of 0 of the gate's table in it."""
        size = self.fixed_VG.shape[1] // 4
        middle_G = np.repeat([MIDDLE, MIDDLE + TABLE_LEN], [3 * size, size])
        base_VG: Float = (self.fixed_VG * self.unit + middle_G).astype(np.float32)
        return base_VG


class QuantizedModel(NamedTuple):
    """All layers, the two matrices of the feed-forward block (or None), the head and its bias (V)."""

    layers: list[Layer]
    up: Matrix | None
    down: Matrix | None
    head: Matrix
    bias_V: Float
    hidden_size: int

    @property
    def matrices(self) -> list[Matrix]:
        """All matrices as a step needs them: of the layers, of the block if there is one, of the head."""
        block = [self.up, self.down] if self.up and self.down else []
        return [*(layer.matrix for layer in self.layers), *block, self.head]


def quantize(model: CharLSTM) -> QuantizedModel:
    """Round a model's weights. The same weights give the same integers everywhere."""
    weights = {name: weight.cpu().float() for name, weight in model.state_dict().items()}
    layers: list[Layer] = []
    for number in range(model.shape.num_layers):
        parts = (
            stacked(weights, number, part, TABLE_GATES)
            for part in ("from_input.weight", "from_hidden.weight", "from_input.bias")
        )
        from_input, from_hidden, bias = (part.numpy() for part in parts)
        base_VG, columns = bias[None].astype(np.float64), [from_input, from_hidden]
        if not layers:  # what a character adds is computed once for all
            base_VG, columns = (
                base_VG + _product(weights["embedding.weight"].numpy(), from_input),
                [from_hidden],
            )
        matrix = _rounded(np.concatenate(columns, 1), STEPS_PER_UNIT / LEVELS)
        layers.append(Layer(matrix, *_fixed_point(base_VG * STEPS_PER_UNIT)))
    up = down = None
    if model.shape.feed_forward_size:
        up = _rounded(weights["feed_forward.up.weight"].numpy(), STEPS_PER_UNIT / LEVELS)
        down = _rounded(weights["feed_forward.down.weight"].numpy(), 1 / LEVELS)
    head = _rounded(weights["head.weight"].numpy(), 1 / LEVELS)
    return QuantizedModel(
        layers, up, down, head, weights["head.bias"].numpy().copy(), model.shape.hidden_size
    )


def _rounded(weight_NK: Float, factor: float) -> Matrix:
    """Eight bits; the scale is a row's step times `factor`."""
    largest_N = np.abs(weight_NK).max(1)
    step_N = np.where(largest_N > 0, largest_N / np.float32(LEVELS), np.float32(1))
    values_NK = np.floor(weight_NK / step_N[:, None] + np.float32(0.5)).clip(-LEVELS, LEVELS)
    return Matrix(values_NK.astype(np.int8), step_N * np.float32(factor))


def _fixed_point(steps_VG: NDArray[np.float64]) -> tuple[NDArray[np.int16], float]:
    """16 bits, in units that are as small as the largest value allows, but not below `FINEST`."""
    unit = max(2.0 ** (math.frexp(float(np.abs(steps_VG).max()))[1] - 15), FINEST)
    fixed_VG = np.floor(steps_VG / unit + 0.5).clip(-(2**15) + 1, 2**15 - 1)
    return fixed_VG.astype(np.int16), unit


def _product(rows_VE: Float, weight_GE: Float) -> NDArray[np.float64]:
    """`rows @ weight.T` in float64, in which products of float32 are exact; always added in the same order."""
    rows_EV, weight_EG = (
        torch.from_numpy(matrix).double().t().contiguous() for matrix in (rows_VE, weight_GE)
    )
    total_VG = torch.zeros(len(rows_VE), len(weight_GE), dtype=torch.float64)
    for row_V, row_G in zip(rows_EV, weight_EG, strict=True):
        total_VG.addr_(row_V, row_G)
    return total_VG.numpy()


def _table(values: NDArray[np.float64]) -> Float:
    """Rounded to 15 binary places, so that the last bit of a mathematical library decides nothing."""
    return (np.floor(values * 2**15 + 0.5) / 2**15).astype(np.float32)


ARGUMENTS: Final = (np.arange(TABLE_LEN) - TABLE_LEN // 2) / STEPS_PER_UNIT
TANH: Final = _table(np.tanh(ARGUMENTS))
GATE_TABLE: Final = np.concatenate(
    [_table(1 / (1 + np.exp(-ARGUMENTS))), TANH]
)  # sigmoid, and tanh for the candidate
GELU: Final = _table(np.array([x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in ARGUMENTS]))
