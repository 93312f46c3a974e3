"""A quantized model at work in machine code, which is compiled once for a machine.

Shapes: L layers, R rows, T characters, V vocabulary, H hidden units.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.generation.compiled import layout
from charlstm.generation.compiled.object_code import TARGET, Function, ObjectCode
from charlstm.generation.drawing import Rules, uniforms
from charlstm.generation.quantized import QuantizedModel, QuantizedState, Stepper
from charlstm.sampling import Sampling

MAX_ROWS_PER_CALL: Final = 8  # what more of them need does not fit a processor's inner caches
MAX_CHARS_PER_CALL: Final = 2**16  # of a row that is read: nobody can interrupt machine code
MOST_ROWS: Final = (
    sys.maxsize if TARGET.has_vnni else 24
)  # at which it is faster than torch, whose products are faster then


class CompiledStepper(Stepper):
    """Reads and writes all characters of some rows in one call; threads share the rows.

    With more than `most_rows` at once, torch is faster.
    """

    most_rows = MOST_ROWS

    def __init__(self, model: QuantizedModel, num_threads: int, function: Function) -> None:
        super().__init__(model)
        self._arrays, self._num_threads, self._function = layout.Model.of(model), num_threads, function

    def read(self, ids_RT: Tensor, state: QuantizedState) -> QuantizedState:
        """The state after reading `ids_RT` (int64)."""
        given_RT = ids_RT.numpy()
        if ((given_RT < 0) | (given_RT >= len(self._arrays.bias_V))).any():
            raise IndexError(f"ids must be below {len(self._arrays.bias_V)}")  # machine code does not look
        nothing = np.zeros((len(given_RT), 0))
        for begin in range(0, given_RT.shape[1], MAX_CHARS_PER_CALL):
            part_RT = given_RT[:, begin : begin + MAX_CHARS_PER_CALL]
            state = self._advance(state, part_RT, _no_rules(len(given_RT)), nothing)[1]
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
        hidden_RLH, cell_RLH = _copied(state)
        ids_RT = np.concatenate([given_RT, np.zeros(uniforms_RT.shape, np.int64)], 1)
        rules_R = _columns(rules, num_rows, len(self._arrays.bias_V))

        def advance_rows(rows: slice) -> None:
            own_rules = layout.Rules._make(column_R[rows] for column_R in rules_R)
            own_state = hidden_RLH[rows], cell_RLH[rows], utf8_R[rows]
            self._function(
                *_arguments(self._arrays, own_rules, uniforms_RT[rows], ids_RT[rows], given_RT.shape[1], *own_state)
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


def compile_for(model: QuantizedModel) -> ObjectCode:
    """Machine code for all models, this one being the example. It takes seconds.

    Raises:
        ImportError: numba is missing.
    """
    from charlstm.generation.compiled.kernels import advance  # numba takes half a second
    from charlstm.generation.compiled.machine_code import compiled

    arrays, nothing = layout.Model.of(model), np.zeros((1, 0))
    rules, state = _columns(_no_rules(1), 1, len(arrays.bias_V)), _copied(Stepper(model).zero_state(1))
    return compiled(advance, *_arguments(arrays, rules, nothing, nothing.astype(np.int64), 0, *state, np.full(1, -1)))


def _arguments(
    arrays: layout.Model,
    rules: layout.Rules,
    uniforms_RT: NDArray[np.float64],
    ids_RT: NDArray[np.int64],
    num_given: int,
    *state: NDArray[np.generic],
) -> tuple[Any, ...]:
    """Those of `kernels.advance`."""
    return arrays, rules, uniforms_RT, ids_RT, num_given, *state, layout.Work.of(arrays, len(ids_RT))


def _copied(state: QuantizedState) -> list[NDArray[np.generic]]:
    """(R, L, H): memory that may be written over."""
    return [part.transpose(0, 1).numpy().copy("C") for part in state]


def _no_rules(num_rows: int) -> Rules:
    return Rules.of([Sampling(temperature=1.0)] * num_rows, 1)


def _columns(rules: Rules, num_rows: int, vocab_size: int) -> layout.Rules:
    """What asks for nothing instead of None."""
    missing = (0.0, 0.0, vocab_size, np.inf, False)
    columns = zip(rules, missing, strict=True)
    return layout.Rules._make(
        np.full(num_rows, nothing) if column is None else column[:, 0].numpy().copy() for column, nothing in columns
    )
