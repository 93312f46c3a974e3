"""A quantized model read one character at a time, for many rows at once, in torch.

Products of integers are exact, so what a row gives does not depend on the other rows (see `quantized.py`).
Shapes: R rows, V vocabulary, H hidden units, G = 4H gate rows, F inner features, K columns and N rows of a matrix.
"""

from functools import cache
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from charlstm.generation.quantized import GATES, GELU, LEVELS, MIDDLE, STEPS_PER_UNIT, TABLE_LEN, TANH
from charlstm.generation.quantized import Matrix, QuantizedModel

MAX_EXACT_COLUMNS: Final = 2**24 // LEVELS**2  # float32 has all whole numbers up to 2^24


class LayerState(NamedTuple):
    """A layer's hidden state (R, H), int8 in steps of 1/127, and its cell state (R, H), float32."""

    hidden: Tensor
    cell: Tensor


class Columns(NamedTuple):
    """A matrix for products from the left: (K, N) int8, and its scale (N)."""

    values_KN: Tensor
    scale_N: Tensor

    @classmethod
    def of(cls, matrix: Matrix) -> "Columns":
        """The same, transposed."""
        return cls(torch.from_numpy(matrix.values_NK).t(), torch.from_numpy(matrix.scale_N))


class Stepper:
    """Reads a character in each row, and gives the logits of the next ones."""

    def __init__(self, model: QuantizedModel) -> None:
        self._layers = [(Columns.of(layer.matrix), torch.from_numpy(layer.base_VG)) for layer in model.layers]
        self._block = (Columns.of(model.up), Columns.of(model.down)) if model.up and model.down else None
        self._head, self._bias_V = Columns.of(model.head), torch.from_numpy(model.bias_V)
        self._gates, self._gelu = torch.from_numpy(GATES), torch.from_numpy(GELU)
        self._tanh_levels = torch.from_numpy(TANH * np.float32(LEVELS))  # exact: 22 bits
        self._hidden_size = model.hidden_size

    def zero_state(self, num_rows: int) -> list[LayerState]:
        """The state of every layer before anything was read."""
        zeros_RH = torch.zeros(num_rows, self._hidden_size)
        return [LayerState(zeros_RH.to(torch.int8), zeros_RH) for _ in self._layers]

    def step(self, ids_R: Tensor, states: list[LayerState]) -> tuple[Tensor, list[LayerState]]:
        """Logits (R, V) of the character after `ids_R` (int64), and the states of all layers after reading it."""
        after: list[LayerState] = []
        for (columns, base_VG), state in zip(self._layers, states, strict=True):
            inputs_RK = torch.cat([after[-1].hidden, state.hidden], 1) if after else state.hidden
            steps_RG = exact_product(inputs_RK, columns.values_KN) * columns.scale_N
            steps_RG += base_VG if after else base_VG.index_select(0, ids_R)
            after.append(self._gated(steps_RG, state.cell))
        return self._logits(after[-1].hidden), after

    def _gated(self, steps_RG: Tensor, cell_RH: Tensor) -> LayerState:
        num_sigmoids = 3 * self._hidden_size
        steps_RG[:, :num_sigmoids].clamp_(0, TABLE_LEN - 1)
        steps_RG[:, num_sigmoids:].clamp_(TABLE_LEN, 2 * TABLE_LEN - 1)
        input_RH, forget_RH, output_RH, candidate_RH = _look_up(self._gates, steps_RG).chunk(4, 1)
        cell_RH = (forget_RH * cell_RH).add_(input_RH * candidate_RH)  # two roundings; `addcmul` may have one
        steps_RH = (cell_RH * STEPS_PER_UNIT).add_(MIDDLE).clamp_(0, TABLE_LEN - 1)
        levels_RH = output_RH * _look_up(self._tanh_levels, steps_RH)
        return LayerState(_rounded(levels_RH), cell_RH)

    def _logits(self, hidden_RH: Tensor) -> Tensor:
        """Through the feed-forward block, if there is one, and the head."""
        if self._block is None:
            return exact_product(hidden_RH, self._head.values_KN) * self._head.scale_N + self._bias_V
        up, down = self._block
        steps_RF = (exact_product(hidden_RH, up.values_KN) * up.scale_N).add_(MIDDLE).clamp_(0, TABLE_LEN - 1)
        inner_RF, largest_R1 = _eight_bits(_look_up(self._gelu, steps_RF))
        added_RH = exact_product(inner_RF, down.values_KN) * (down.scale_N * largest_R1)
        outer_RH, largest_R1 = _eight_bits((hidden_RH * (1 / LEVELS)).add_(added_RH))
        logits_RV = exact_product(outer_RH, self._head.values_KN) * (self._head.scale_N * largest_R1)
        return logits_RV.add_(self._bias_V)


def _look_up(table: Tensor, steps: Tensor) -> Tensor:
    """The entries at the whole parts of `steps`, which are in range and above 0."""
    return table.index_select(0, steps.to(torch.int32).view(-1)).view(steps.shape)


def _rounded(levels: Tensor) -> Tensor:
    return levels.add_(0.5).floor_().to(torch.int8)


def _eight_bits(activations_RK: Tensor) -> tuple[Tensor, Tensor]:
    """Rounded to 8 bits, and the largest magnitude of each row (R, 1)."""
    largest_R1 = activations_RK.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
    return _rounded(activations_RK * torch.div(torch.tensor(float(LEVELS)), largest_R1)), largest_R1


def exact_product(rows_RK: Tensor, columns_KN: Tensor) -> Tensor:
    """The product of int8 matrices, exact: int32, or float32 with whole numbers."""
    return _integer_product(rows_RK, columns_KN) if _has_integer_product() else _float_product(rows_RK, columns_KN)


def _integer_product(rows_RK: Tensor, columns_KN: Tensor) -> Tensor:
    return torch._int_mm(rows_RK, columns_KN)


def _float_product(rows_RK: Tensor, columns_KN: Tensor) -> Tensor:
    """Of floats that hold whole numbers: exact in any order as long as no sum needs more than 24 bits."""
    pieces = zip(rows_RK.split(MAX_EXACT_COLUMNS, 1), columns_KN.split(MAX_EXACT_COLUMNS, 0), strict=True)
    products = [(rows.float() @ columns.float()).to(torch.int32) for rows, columns in pieces]
    return torch.stack(products).sum(0, dtype=torch.int32)


@cache
def _has_integer_product() -> bool:
    """Whether `torch._int_mm` works here and is exact: it saturates on old processors that add in 16 bits."""
    extremes = torch.tensor([[LEVELS, -LEVELS, LEVELS, LEVELS]], dtype=torch.int8).repeat(33, 64)
    try:
        return torch.equal(_integer_product(extremes, extremes[:32].t()), _float_product(extremes, extremes[:32].t()))
    except (AttributeError, RuntimeError):
        return False
