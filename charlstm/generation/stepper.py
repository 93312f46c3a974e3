"""A quantized model that reads and writes in many rows at once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
import torch

from charlstm.generation import kernels
from charlstm.generation.kernels import LEVELS, Double, Float, Ids, Int8, Rules
from charlstm.generation.packed import packed
from charlstm.generation.quantized import QuantizedModel
from charlstm.model.gates import LSTMState
from charlstm.sampling import Sampling

MAX_ROWS_PER_CALL: Final = 128  # what more of them need does not fit a processor's inner caches
MAX_CHARS_PER_CALL: Final = 2**16  # of a row that is read: compiled code cannot be interrupted


class QuantizedState(NamedTuple):
    """Hidden states in steps of 1/127, and cell states."""

    hidden_RLH: Int8
    cell_RLH: Float

    @classmethod
    def of(cls, state: LSTMState) -> "QuantizedState":
        """The state (L, R, H), rounded. What `dequantized` gives comes back as it was."""
        hidden_RLH, cell_RLH = (
            one.cpu().float().transpose(0, 1).contiguous().numpy() for one in state
        )
        return cls(
            np.floor(hidden_RLH * np.float32(LEVELS) + np.float32(0.5)).astype(np.int8), cell_RLH
        )

    def dequantized(self) -> LSTMState:
        """The state (L, R, H) as the model has it, in float32."""
        hidden_LRH = torch.from_numpy(self.hidden_RLH).transpose(0, 1) * (1 / LEVELS)
        return LSTMState(hidden_LRH, torch.from_numpy(self.cell_RLH).transpose(0, 1).clone())

    def rows(self, rows: slice | list[int]) -> "QuantizedState":
        """The state of some rows; one may come several times."""
        return QuantizedState(self.hidden_RLH[rows], self.cell_RLH[rows])

    def copy(self) -> "QuantizedState":
        """A state to write over."""
        return QuantizedState(self.hidden_RLH.copy(), self.cell_RLH.copy())


class Stepper:
    """Reads and writes in many rows at once, which threads share."""

    def __init__(self, model: QuantizedModel, num_threads: int | None = None) -> None:
        self._model, self._num_threads = packed(model), num_threads or torch.get_num_threads()
        self._state_shape = len(model.layers), model.hidden_size

    def zero_state(self, num_rows: int) -> QuantizedState:
        """The state before anything was read."""
        shape = (num_rows, *self._state_shape)
        return QuantizedState(np.zeros(shape, np.int8), np.zeros(shape, np.float32))

    def read(self, ids_RT: Ids, state: QuantizedState) -> QuantizedState:
        """The state after reading."""
        rules = Rules.of([Sampling()] * len(ids_RT), len(self._model.bias_V))
        for begin in range(0, ids_RT.shape[1], MAX_CHARS_PER_CALL):
            given_RT = ids_RT[:, begin : begin + MAX_CHARS_PER_CALL]
            _, state = self.write(state, rules, np.zeros((len(ids_RT), 0)), given_RT=given_RT)
        return state

    def write(
        self,
        state: QuantizedState,
        rules: Rules,
        uniforms_RT: Double,
        utf8_R: Ids | None = None,
        given_RT: Ids | None = None,
    ) -> tuple[Ids, QuantizedState]:
        """Read `given_RT`, then draw an id for each random number: all ids (R, T), and the state after reading them.

        With `utf8_R`, the states of UTF-8 after what was read, ids are bytes that stay valid UTF-8.
        """
        num_rows, num_given = len(uniforms_RT), 0 if given_RT is None else given_RT.shape[1]
        ids_RT = np.zeros((num_rows, num_given + uniforms_RT.shape[1]), np.int64)
        ids_RT[:, :num_given] = given_RT if num_given else 0
        utf8_R = np.full(num_rows, -1) if utf8_R is None else utf8_R.copy()
        after = state.copy()

        def advance(rows: slice) -> None:
            some = (
                rules.rows(rows),
                uniforms_RT[rows],
                num_given,
                ids_RT[rows],
                *after.rows(rows),
                utf8_R[rows],
            )
            call(kernels.advance, self._model, *some)

        self._share_out(num_rows, advance)
        return ids_RT, after

    def score(self, ids_RT: Ids, state: QuantizedState) -> tuple[Float, QuantizedState]:
        """Logits (R, T, V) of the character after each that is read, and the state after the last."""
        logits_RTV, after = (
            np.empty((*ids_RT.shape, len(self._model.bias_V)), np.float32),
            state.copy(),
        )

        def score(rows: slice) -> None:
            call(kernels.score, self._model, ids_RT[rows], *after.rows(rows), logits_RTV[rows])

        self._share_out(len(ids_RT), score)
        return logits_RTV, after

    def _share_out(self, num_rows: int, work: Callable[[slice], None]) -> None:
        num_at_once = max(1, min(MAX_ROWS_PER_CALL, -(-num_rows // self._num_threads)))
        parts = [slice(begin, begin + num_at_once) for begin in range(0, num_rows, num_at_once)]
        if len(parts) == 1:
            work(parts[0])
            return
        with ThreadPoolExecutor(self._num_threads) as pool:
            list(pool.map(work, parts))


def call(function: Callable[..., None], *arguments: object) -> None:
    """Call compiled code. Where it was compiled and could not be kept, as on a full disk, it is there all the same."""
    try:
        function(*arguments)
    except OSError:
        function(*arguments)
