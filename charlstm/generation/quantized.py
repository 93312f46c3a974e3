"""A model in 8-bit integers, whose results are the same to the bit on any machine, in any batch, in any language.

A sum of floats depends on the order in which a processor adds: on the batch, the threads and the library. A sum of
integers does not. So weights and activations are rounded to 8 bits before each product. What follows a product uses
only operations that every machine rounds alike (IEEE 754's +, -, * and /, one at a time, in float32), and tables of
functions. `Stepper` computes with it in torch, `compiled/` in machine code, the review page in JavaScript.

    weights of row n             q_n = round(W_n / s_n), from -127 to 127, with s_n = max|W_n| / 127
    hidden state h in (-1, 1)    a = round(127 h)
    other activations x          a = round(127 / m * x), with m = max|x| over the features of a row and step
    a product                    W_n x ~ s_n / 127 * m * sum_k q_nk a_k; the sum is exact
    a function of g              TABLE[round(256 g) + 4096]

Here round(x) is floor(x + 1/2). Per-row scales: Wu et al. 2020 (arXiv 2004.09602).
Shapes: L layers, R or B rows of a batch, T characters, V vocabulary, E embedding features, H hidden units, G = 4H gate
rows, F inner features of the block, N rows and K columns of a matrix.
"""

import math
import sys
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.generation.drawing import ALLOWED, NEXT, Double, Float, Ids, Rules, draw
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.model.layers import stacked

STEPS_PER_UNIT: Final = 256  # of a table's argument
TABLE_LEN: Final = 8192  # for arguments from -16 to 16
MIDDLE: Final = TABLE_LEN / 2 + 0.5  # the index of 0, and 1/2 for rounding
FINEST: Final = 2.0**-8  # of a step; float32 adds such parts to an index without rounding
TABLE_GATES: Final = ("input_gate", "forget_gate", "output_gate", "candidate")  # those of one function together
LEVELS: Final = 127  # of a weight or an activation, on either side of 0


class Matrix(NamedTuple):
    """A weight matrix: `values_NK` int8, and `scale_N` float32, which turns a row's integer sum into what is used."""

    values_NK: NDArray[np.int8]
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
            base_VG, columns = base_VG + _product(weights["embedding.weight"].numpy(), from_input), [from_hidden]
        matrix = _rounded(np.concatenate(columns, 1), STEPS_PER_UNIT / LEVELS)
        layers.append(Layer(matrix, *_fixed_point(base_VG * STEPS_PER_UNIT)))
    up = down = None
    if model.shape.feed_forward_size:
        up = _rounded(weights["feed_forward.up.weight"].numpy(), STEPS_PER_UNIT / LEVELS)
        down = _rounded(weights["feed_forward.down.weight"].numpy(), 1 / LEVELS)
    head = _rounded(weights["head.weight"].numpy(), 1 / LEVELS)
    return QuantizedModel(layers, up, down, head, weights["head.bias"].numpy().copy(), model.shape.hidden_size)


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
    """`rows @ weight.T`, added in one fixed order: libraries choose theirs by the machine.

    A product of two float32 numbers is exact in float64, so a processor that adds it in the same instruction gives the
    same bits as one that multiplies first. One outer product at a time is also several times as fast as in numpy.
    """
    rows_EV, weight_EG = (torch.from_numpy(matrix).double().t().contiguous() for matrix in (rows_VE, weight_GE))
    total_VG = torch.zeros(len(rows_VE), len(weight_GE), dtype=torch.float64)
    for row_V, row_G in zip(rows_EV, weight_EG, strict=True):
        total_VG.addr_(row_V, row_G)
    return total_VG.numpy()


def _table(values: NDArray[np.float64]) -> Float:
    """Rounded to 15 binary places, so that the last bit of a mathematical library decides nothing."""
    return (np.floor(values * 2**15 + 0.5) / 2**15).astype(np.float32)


ARGUMENTS: Final = (np.arange(TABLE_LEN) - TABLE_LEN // 2) / STEPS_PER_UNIT
TANH: Final = _table(np.tanh(ARGUMENTS))
GATE_TABLE: Final = np.concatenate([_table(1 / (1 + np.exp(-ARGUMENTS))), TANH])  # sigmoid, and tanh for the candidate
GELU: Final = _table(np.array([x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in ARGUMENTS]))


# Products of 8-bit integers in torch, exact on every processor.

MAX_EXACT_COLUMNS: Final = 2**24 // LEVELS**2  # float32 has all whole numbers up to 2^24


class Columns:
    """A matrix for products from the left: in int8, or in float32 where torch has no exact product of integers."""

    def __init__(self, matrix: Matrix) -> None:
        self._scale_N, values_KN = torch.from_numpy(matrix.scale_N), torch.from_numpy(matrix.values_NK).t()
        is_exact = has_exact_integer_product(values_KN)
        self._multiply = torch._int_mm if is_exact else float_product
        self._values_KN = values_KN if is_exact else values_KN.float()

    def times(self, rows_RK: Tensor, factor_R1: Tensor | None = None) -> Tensor:
        """The product with `rows_RK` (int8), times the scale, times a factor for each row: (R, N), float32."""
        scale = self._scale_N if factor_R1 is None else self._scale_N * factor_R1
        return self._multiply(rows_RK, self._values_KN) * scale


def float_product(rows_RK: Tensor, columns_KN: Tensor) -> Tensor:
    """The product of floats that hold whole numbers, exact in any order if no sum needs more than 24 bits: int32."""
    pieces = zip(torch.split(rows_RK, MAX_EXACT_COLUMNS, 1), torch.split(columns_KN, MAX_EXACT_COLUMNS, 0), strict=True)
    products = [(rows.float() @ columns.float()).to(torch.int32) for rows, columns in pieces]
    return torch.stack(products).sum(0, dtype=torch.int32)


def has_exact_integer_product(values_KN: Tensor) -> bool:
    """Whether torch multiplies by this matrix exactly here: tried with the largest values, in one row and in several.

    Older processors add in 16 bits, which saturates, and torch 2.13 is wrong for a matrix of one column (K = 1).
    """
    num_columns = len(values_KN)
    extremes = torch.tensor([1, -1], dtype=torch.int8).mul(LEVELS).repeat(num_columns)[:num_columns]
    signs_RK = torch.stack([extremes, extremes.abs(), *(values_KN[:, :30].t().sign() * LEVELS)])
    exact_RN = float_product(signs_RK, values_KN)
    try:
        return all(torch.equal(torch._int_mm(signs_RK[:rows], values_KN), exact_RN[:rows]) for rows in (1, 32))
    except (AttributeError, RuntimeError):
        return False


# A quantized model at work, for many rows at once, in torch: reading characters, and writing them.
#
# Products of integers are exact, so what a row gives does not depend on the other rows.

TINY: Final = 1e-30  # instead of a largest activation of 0, so that 127 / m is finite


class QuantizedState(NamedTuple):
    """Hidden states (L, R, H), int8 in steps of 1/127, and cell states (L, R, H), float32."""

    hidden: Tensor
    cell: Tensor

    @classmethod
    def of(cls, state: LSTMState) -> "QuantizedState":
        """The state, rounded. What `dequantized` gives comes back as it was."""
        return cls(_rounded_levels(state.hidden * LEVELS), state.cell.clone())

    def dequantized(self) -> LSTMState:
        """The state as the model has it, in float32."""
        return LSTMState(self.hidden * (1 / LEVELS), self.cell.clone())

    def rows(self, rows: slice | list[int]) -> "QuantizedState":
        """The state of some rows; one may come several times."""
        return QuantizedState(self.hidden[:, rows], self.cell[:, rows])


class Stepper:
    """Reads and writes in all rows at once, a character at a time."""

    most_rows = sys.maxsize  # with more of them at once, another engine is faster

    def __init__(self, model: QuantizedModel) -> None:
        self._model = model
        self._gates, self._gelu = torch.from_numpy(GATE_TABLE), torch.from_numpy(GELU)
        self._tanh_levels = torch.from_numpy(TANH * np.float32(LEVELS))  # exact: 22 bits

    @cached_property
    def _columns(self) -> list[Columns]:
        """Made when they are needed first: trying how torch multiplies takes longer than a text in machine code."""
        return [Columns(matrix) for matrix in self._model.matrices]

    @cached_property
    def _bases(self) -> list[Tensor]:
        return [torch.from_numpy(layer.base_VG) for layer in self._model.layers]

    def zero_state(self, num_rows: int) -> QuantizedState:
        """The state before anything was read."""
        zeros_LRH = torch.zeros(len(self._model.layers), num_rows, self._model.hidden_size)
        return QuantizedState(zeros_LRH.to(torch.int8), zeros_LRH)

    def read(self, ids_RT: Tensor, state: QuantizedState) -> QuantizedState:
        """The state after reading `ids_RT` (int64)."""
        for ids_R in ids_RT.t():
            state = self._read_one(ids_R, state)
        return state

    def write(
        self, state: QuantizedState, rules: Rules, uniforms_RT: Double, utf8_R: Ids | None = None
    ) -> tuple[Tensor, QuantizedState]:
        """The next ids (R, T) of each row, an id for each random number, and the state after reading them, too.

        With `utf8_R`, the states of `drawing.NEXT` after what was read, ids are bytes that stay valid UTF-8.
        """
        written: list[Tensor] = []
        for uniforms_R in uniforms_RT.T:
            allowed_RV = None if utf8_R is None else ALLOWED[utf8_R]
            ids_R = draw(self.logits(state).numpy(), rules, uniforms_R, allowed_RV)
            written.append(torch.from_numpy(ids_R))
            state = self._read_one(written[-1], state)
            utf8_R = None if utf8_R is None else NEXT[utf8_R, ids_R]
        return torch.stack(written, 1), state

    def logits(self, state: QuantizedState) -> Tensor:
        """Logits of the character after what was read: (R, V), float32."""
        hidden_RH, head, bias_V = state.hidden[-1], self._columns[-1], torch.from_numpy(self._model.bias_V)
        if self._model.up is None:
            return head.times(hidden_RH).add_(bias_V)
        up, down = self._columns[-3:-1]
        steps_RF = up.times(hidden_RH).add_(MIDDLE).clamp_(0, TABLE_LEN - 1)
        inner_RF, largest_R1 = _eight_bits(_look_up(self._gelu, steps_RF))
        added_RH = down.times(inner_RF, largest_R1)
        outer_RH, largest_R1 = _eight_bits((hidden_RH * (1 / LEVELS)).add_(added_RH))
        return head.times(outer_RH, largest_R1).add_(bias_V)

    def _read_one(self, ids_R: Tensor, state: QuantizedState) -> QuantizedState:
        hidden: list[Tensor] = []
        cells: list[Tensor] = []
        for number, base_VG in enumerate(self._bases):
            before_RH, columns = state.hidden[number], self._columns[number]
            steps_RG = columns.times(torch.cat([hidden[-1], before_RH], 1) if hidden else before_RH)
            steps_RG += base_VG if hidden else base_VG.index_select(0, ids_R)
            hidden_RH, cell_RH = self._gated(steps_RG, state.cell[number])
            hidden.append(hidden_RH)
            cells.append(cell_RH)
        return QuantizedState(torch.stack(hidden), torch.stack(cells))

    def _gated(self, steps_RG: Tensor, cell_RH: Tensor) -> tuple[Tensor, Tensor]:
        num_sigmoids = 3 * self._model.hidden_size
        steps_RG[:, :num_sigmoids].clamp_(0, TABLE_LEN - 1)
        steps_RG[:, num_sigmoids:].clamp_(TABLE_LEN, 2 * TABLE_LEN - 1)
        input_RH, forget_RH, output_RH, candidate_RH = _look_up(self._gates, steps_RG).chunk(4, 1)
        cell_RH = (forget_RH * cell_RH).add_(input_RH * candidate_RH)  # two roundings; `addcmul` may have one
        steps_RH = (cell_RH * STEPS_PER_UNIT).add_(MIDDLE).clamp_(0, TABLE_LEN - 1)
        return _rounded_levels(output_RH * _look_up(self._tanh_levels, steps_RH)), cell_RH


def _look_up(table: Tensor, steps: Tensor) -> Tensor:
    """The entries at the whole parts of `steps`, which are in range."""
    return table.index_select(0, steps.to(torch.int32).view(-1)).view(steps.shape)


def _rounded_levels(levels: Tensor) -> Tensor:
    return levels.add_(0.5).floor_().to(torch.int8)


def _eight_bits(activations_RK: Tensor) -> tuple[Tensor, Tensor]:
    """Rounded to 8 bits, and the largest magnitude of each row (R, 1)."""
    largest_R1 = activations_RK.abs().amax(1, keepdim=True).clamp_(min=TINY)
    return _rounded_levels(activations_RK * torch.div(torch.tensor(float(LEVELS)), largest_R1)), largest_R1


class QuantizedLanguageModel:
    """`model` in 8 bits as the protocols ask for one, so that 8-bit weights are scored as float32 ones are."""

    def __init__(self, model: CharLSTM) -> None:
        self.shape = model.shape
        self._stepper = Stepper(quantize(model))

    def zero_state(self, num_rows: int) -> LSTMState:
        """The state (L, B, H) before anything was read."""
        return self._stepper.zero_state(num_rows).dequantized()

    def __call__(self, ids_BT: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Logits (B, T, V) of the character after each of `ids_BT`, and the state after the last."""
        now, logits = QuantizedState.of(state), []
        for ids_B in ids_BT.t():
            now = self._stepper.read(ids_B[:, None], now)
            logits.append(self._stepper.logits(now))
        return torch.stack(logits, 1), now.dequantized()
