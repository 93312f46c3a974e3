"""A quantized model at work, for many rows at once, in torch: reading characters, and writing them.

Products of integers are exact, so what a row gives does not depend on the other rows (see `quantized.py`).
Shapes: L layers, R rows, T characters, V vocabulary, H hidden units, G = 4H gate rows, F inner features of the block.
"""

from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.generation.drawing import Rules, draw
from charlstm.generation.exact_product import Columns
from charlstm.generation.quantized import (
    GATES,
    GELU,
    LEVELS,
    MIDDLE,
    STEPS_PER_UNIT,
    TABLE_LEN,
    TANH,
    QuantizedModel,
)
from charlstm.generation.random_numbers import uniforms
from charlstm.generation.utf8 import ALLOWED, NEXT
from charlstm.model.gates import LSTMState

TINY: Final = 1e-30  # instead of a largest activation of 0, so that 127 / m is finite


class QuantizedState(NamedTuple):
    """Hidden states (L, R, H), int8 in steps of 1/127, and cell states (L, R, H), float32."""

    hidden: Tensor
    cell: Tensor

    @classmethod
    def of(cls, state: LSTMState) -> "QuantizedState":
        """Rounded. What `dequantized` gives comes back as it was."""
        return cls(_rounded(state.hidden * LEVELS), state.cell.clone())

    def dequantized(self) -> LSTMState:
        """As the model has them, in float32."""
        return LSTMState(self.hidden * (1 / LEVELS), self.cell.clone())

    def first(self, num_rows: int) -> "QuantizedState":
        """The first rows."""
        return QuantizedState(self.hidden[:, :num_rows], self.cell[:, :num_rows])

    def rows(self, rows: Tensor) -> "QuantizedState":
        """Some rows, by their indices; a row may come several times."""
        return QuantizedState(self.hidden.index_select(1, rows), self.cell.index_select(1, rows))


class Weights(NamedTuple):
    """A quantized model's, ready for torch: a matrix and what is added for each layer, the block, the head."""

    layers: list[tuple[Columns, Tensor]]
    block: tuple[Columns, Columns] | None
    head: Columns
    bias_V: Tensor

    @classmethod
    def of(cls, model: QuantizedModel) -> "Weights":
        """The same numbers."""
        return cls(
            [(Columns.of(layer.matrix), torch.from_numpy(layer.base_VG)) for layer in model.layers],
            (Columns.of(model.up), Columns.of(model.down)) if model.up and model.down else None,
            Columns.of(model.head),
            torch.from_numpy(model.bias_V),
        )


class Stepper:
    """Reads and writes in all rows at once, a character at a time."""

    def __init__(self, model: QuantizedModel) -> None:
        self._model, self._hidden_size = model, model.hidden_size
        self._gates, self._gelu = torch.from_numpy(GATES), torch.from_numpy(GELU)
        self._tanh_levels = torch.from_numpy(TANH * np.float32(LEVELS))  # exact: 22 bits

    @cached_property
    def _weights(self) -> Weights:
        """Made when they are needed first: trying how torch multiplies takes longer than a text in machine code."""
        return Weights.of(self._model)

    def zero_state(self, num_rows: int) -> QuantizedState:
        """The state before anything was read."""
        zeros_LRH = torch.zeros(len(self._model.layers), num_rows, self._hidden_size)
        return QuantizedState(zeros_LRH.to(torch.int8), zeros_LRH)

    def read(self, ids_RT: Tensor, state: QuantizedState) -> QuantizedState:
        """The state after reading `ids_RT` (int64)."""
        for ids_R in ids_RT.t():
            state = self._read_one(ids_R, state)
        return state

    def write(
        self,
        state: QuantizedState,
        rules: Rules,
        keys_R: NDArray[np.uint64],
        start: int,
        count: int,
        utf8_R: NDArray[np.int64] | None = None,
    ) -> tuple[Tensor, QuantizedState]:
        """The next `count` ids of each row, (R, count), and the state after reading them, too.

        `keys_R` and `start`, the number of ids that were written before, choose the random numbers. With `utf8_R`, the
        states of `utf8.py` after what was read, ids are bytes that stay valid UTF-8.
        """
        uniforms_RT = torch.from_numpy(uniforms(keys_R, start, count))
        written, utf8 = [], None if utf8_R is None else torch.from_numpy(utf8_R)
        for uniforms_R in uniforms_RT.t():
            allowed_RV = None if utf8 is None else _ALLOWED.index_select(0, utf8)
            written.append(draw(self.logits(state), rules, uniforms_R, allowed_RV))
            state = self._read_one(written[-1], state)
            utf8 = None if utf8 is None else _NEXT[utf8, written[-1]]
        return torch.stack(written, 1), state

    def logits(self, state: QuantizedState) -> Tensor:
        """Of the character after what was read: (R, V), float32."""
        hidden_RH, (_, block, head, bias_V) = state.hidden[-1], self._weights
        if block is None:
            return head.times(hidden_RH).add_(bias_V)
        up, down = block
        steps_RF = up.times(hidden_RH).add_(MIDDLE).clamp_(0, TABLE_LEN - 1)
        inner_RF, largest_R1 = _eight_bits(_look_up(self._gelu, steps_RF))
        added_RH = down.times(inner_RF, largest_R1)
        outer_RH, largest_R1 = _eight_bits((hidden_RH * (1 / LEVELS)).add_(added_RH))
        return head.times(outer_RH, largest_R1).add_(bias_V)

    def _read_one(self, ids_R: Tensor, state: QuantizedState) -> QuantizedState:
        hidden: list[Tensor] = []
        cells: list[Tensor] = []
        for number, (columns, base_VG) in enumerate(self._weights.layers):
            before_RH = state.hidden[number]
            steps_RG = columns.times(torch.cat([hidden[-1], before_RH], 1) if hidden else before_RH)
            steps_RG += base_VG if hidden else base_VG.index_select(0, ids_R)
            hidden_RH, cell_RH = self._gated(steps_RG, state.cell[number])
            hidden.append(hidden_RH)
            cells.append(cell_RH)
        return QuantizedState(torch.stack(hidden), torch.stack(cells))

    def _gated(self, steps_RG: Tensor, cell_RH: Tensor) -> tuple[Tensor, Tensor]:
        num_sigmoids = 3 * self._hidden_size
        steps_RG[:, :num_sigmoids].clamp_(0, TABLE_LEN - 1)
        steps_RG[:, num_sigmoids:].clamp_(TABLE_LEN, 2 * TABLE_LEN - 1)
        input_RH, forget_RH, output_RH, candidate_RH = _look_up(self._gates, steps_RG).chunk(4, 1)
        cell_RH = (forget_RH * cell_RH).add_(input_RH * candidate_RH)  # two roundings; `addcmul` may have one
        steps_RH = (cell_RH * STEPS_PER_UNIT).add_(MIDDLE).clamp_(0, TABLE_LEN - 1)
        return _rounded(output_RH * _look_up(self._tanh_levels, steps_RH)), cell_RH


def _look_up(table: Tensor, steps: Tensor) -> Tensor:
    """The entries at the whole parts of `steps`, which are in range."""
    return table.index_select(0, steps.to(torch.int32).view(-1)).view(steps.shape)


def _rounded(levels: Tensor) -> Tensor:
    return levels.add_(0.5).floor_().to(torch.int8)


def _eight_bits(activations_RK: Tensor) -> tuple[Tensor, Tensor]:
    """Rounded to 8 bits, and the largest magnitude of each row (R, 1)."""
    largest_R1 = activations_RK.abs().amax(1, keepdim=True).clamp_(min=TINY)
    return _rounded(activations_RK * torch.div(torch.tensor(float(LEVELS)), largest_R1)), largest_R1


_ALLOWED: Final = torch.from_numpy(ALLOWED)
_NEXT: Final = torch.from_numpy(NEXT)
