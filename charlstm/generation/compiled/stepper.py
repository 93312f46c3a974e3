"""A quantized model at work in machine code. The first call in a process compiles for a few seconds.

Shapes: L layers, R rows, T characters, V vocabulary, H hidden units.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.generation.compiled import drawing, kernels
from charlstm.generation.compiled.products import HAS_VNNI
from charlstm.generation.drawing import Rules
from charlstm.generation.quantized import QuantizedModel
from charlstm.generation.random_numbers import uniforms
from charlstm.generation.rule import SamplingRule
from charlstm.generation.stepper import QuantizedState, Stepper

MAX_ROWS_PER_CALL: Final = 8  # what more of them need does not fit a processor's inner caches
MOST_ROWS: Final = sys.maxsize if HAS_VNNI else 24  # at which it is faster than torch, whose products are faster then


class CompiledStepper(Stepper):
    """Reads and writes all characters of some rows in one call; threads share the rows.

    With more than `most_rows` at once, torch is faster.
    """

    most_rows = MOST_ROWS

    def __init__(self, model: QuantizedModel, num_threads: int) -> None:
        super().__init__(model)
        self._model, self._num_threads = kernels.Model.of(model), num_threads

    def read(self, ids_RT: Tensor, state: QuantizedState) -> QuantizedState:
        """The state after reading `ids_RT` (int64)."""
        given_RT = ids_RT.numpy()
        if ((given_RT < 0) | (given_RT >= len(self._model.bias_V))).any():
            raise IndexError(f"ids must be below {len(self._model.bias_V)}")  # machine code does not look
        return self._advance(state, given_RT, _no_rules(len(given_RT)), np.zeros((len(given_RT), 0)))[1]

    def write(
        self,
        state: QuantizedState,
        rules: Rules,
        keys_R: NDArray[np.uint64],
        start: int,
        count: int,
        utf8_R: NDArray[np.int64] | None = None,
    ) -> tuple[Tensor, QuantizedState]:
        """As there: the next `count` ids of each row, (R, count), and the state after reading them."""
        nothing_R0 = np.zeros((len(keys_R), 0), np.int64)
        return self._advance(state, nothing_R0, rules, uniforms(keys_R, start, count), utf8_R)

    def _advance(
        self,
        state: QuantizedState,
        given_RT: NDArray[np.int64],
        rules: Rules,
        uniforms_RT: NDArray[np.float64],
        utf8_R: NDArray[np.int64] | None = None,
    ) -> tuple[Tensor, QuantizedState]:
        """Read what is given, then write an id for each of `uniforms_RT`."""
        num_rows = len(given_RT)
        utf8_R = np.full(num_rows, -1) if utf8_R is None else utf8_R.copy()
        hidden_RLH, cell_RLH = (part.transpose(0, 1).numpy().copy("C") for part in state)
        ids_RT = np.concatenate([given_RT, np.zeros(uniforms_RT.shape, np.int64)], 1)
        columns = _columns(rules, num_rows, len(self._model.bias_V))

        def advance_rows(rows: slice) -> None:
            kernels.advance(
                self._model,
                drawing.Rules._make(column_R[rows] for column_R in columns),
                uniforms_RT[rows],
                ids_RT[rows],
                given_RT.shape[1],
                hidden_RLH[rows],
                cell_RLH[rows],
                utf8_R[rows],
                kernels.Work.of(self._model, len(ids_RT[rows])),
            )

        size = min(MAX_ROWS_PER_CALL, -(-num_rows // self._num_threads))
        pieces = [slice(begin, begin + size) for begin in range(0, num_rows, size)]
        if len(pieces) == 1:
            advance_rows(pieces[0])
        else:
            with ThreadPoolExecutor(self._num_threads) as pool:
                list(pool.map(advance_rows, pieces))
        hidden_LRH, cell_LRH = (torch.from_numpy(part).transpose(0, 1).contiguous() for part in (hidden_RLH, cell_RLH))
        return torch.from_numpy(ids_RT), QuantizedState(hidden_LRH, cell_LRH)


def _no_rules(num_rows: int) -> Rules:
    return Rules.of([SamplingRule(1.0)] * num_rows, 1)


def _columns(rules: Rules, num_rows: int, vocab_size: int) -> Sequence[NDArray[np.generic]]:
    """Those of `drawing.Rules`, with what asks for nothing instead of None."""
    missing = (0.0, 0.0, vocab_size, np.inf, False)
    columns = zip(rules, missing, strict=True)
    return [np.full(num_rows, nothing) if column is None else column[:, 0].numpy() for column, nothing in columns]
