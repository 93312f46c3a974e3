"""Reading and generating ids with a quantized model, many rows at a time."""

from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import numpy as np
import torch

from charlstm.generation import kernels
from charlstm.generation.kernels import LEVELS, TILE, Double, Float, Ids, Int8, PackedModel, Rules
from charlstm.generation.quantized import GATE_TABLE, GELU, TANH, QuantizedModel
from charlstm.model.gates import LSTMState
from charlstm.sampling import Sampling
from charlstm.text.utf8 import NEXT

MAX_ROWS_PER_CALL: Final = 128  # more rows would not fit into the processor's inner caches
MAX_CHARS_PER_CALL: Final = 2**16  # per row; Ctrl-C has to wait until a call returns


class QuantizedState(NamedTuple):
    """Hidden states as integer multiples of 1/127, and cell states as floats."""

    hidden_RLH: Int8
    cell_RLH: Float

    @classmethod
    def of(cls, state: LSTMState) -> "QuantizedState":
        """Return an LSTM state, given as (L, R, H), with its hidden states rounded to 8 bits.

        A state returned by `dequantized` is converted back exactly.
        """
        hidden_RLH, cell_RLH = (part.transpose(0, 1).contiguous().numpy() for part in state)
        levels_RLH = np.floor(hidden_RLH * np.float32(LEVELS) + np.float32(0.5))
        return cls(levels_RLH.astype(np.int8), cell_RLH)

    def dequantized(self) -> LSTMState:
        """Return the state (L, R, H) in float32, as the unquantized model uses it."""
        hidden_LRH = torch.from_numpy(self.hidden_RLH).transpose(0, 1) * (1 / LEVELS)
        return LSTMState(hidden_LRH, torch.from_numpy(self.cell_RLH).transpose(0, 1).clone())

    def rows(self, rows: slice | list[int]) -> "QuantizedState":
        """Return the state of the selected rows. A row may be selected more than once."""
        return QuantizedState(self.hidden_RLH[rows], self.cell_RLH[rows])


class Stepper:
    """Reader and generator of ids in many rows, which are divided among threads."""

    def __init__(self, model: QuantizedModel, num_threads: int | None = None) -> None:
        self._model = packed(model)
        self._num_threads = num_threads or torch.get_num_threads()
        self._state_shape = len(model.layers), model.hidden_size

    def zero_state(self, num_rows: int) -> QuantizedState:
        """Return the state before the first character: zeros in each of `num_rows` rows."""
        shape = (num_rows, *self._state_shape)
        return QuantizedState(np.zeros(shape, np.int8), np.zeros(shape, np.float32))

    def read(self, ids_RT: Ids, state: QuantizedState) -> QuantizedState:
        """Return the state after reading all ids."""
        rules = Rules.of([Sampling()] * len(ids_RT), len(self._model.bias_V))
        no_uniforms = np.zeros((len(ids_RT), 0))
        for start in range(0, ids_RT.shape[1], MAX_CHARS_PER_CALL):
            given_RT = ids_RT[:, start : start + MAX_CHARS_PER_CALL]
            _, state = self.write(state, rules, no_uniforms, given_RT=given_RT)
        return state

    def write(
        self,
        state: QuantizedState,
        rules: Rules,
        uniforms_RT: Double,
        utf8_R: Ids | None = None,
        given_RT: Ids | None = None,
    ) -> tuple[Ids, QuantizedState]:
        """Read the ids in `given_RT`, then sample and read one id for each random number.

        Return all ids (R, T) and the state after them. `utf8_R` has each row's UTF-8 state after
        the bytes read so far (see `text/utf8.py`). With `utf8_R`, only valid UTF-8 is generated.
        """
        num_rows = len(uniforms_RT)
        ids_RT = np.zeros(uniforms_RT.shape, np.int64)
        if given_RT is not None:
            ids_RT = np.concatenate([given_RT, ids_RT], 1)
        utf8_R = np.full(num_rows, -1) if utf8_R is None else utf8_R.copy()
        after = QuantizedState(state.hidden_RLH.copy(), state.cell_RLH.copy())

        def advance(rows: slice) -> None:
            arrays = (uniforms_RT[rows], ids_RT[rows], *after.rows(rows), utf8_R[rows])
            arguments = (self._model, rules.rows(rows), *arrays)
            try:
                kernels.advance(*arguments)
            except OSError:
                # numba compiled the function but could not write its cache, e.g. on a full disk.
                # Nothing has been computed. The next call finds the compiled function in memory.
                kernels.advance(*arguments)

        num_at_once = max(1, min(MAX_ROWS_PER_CALL, -(-num_rows // self._num_threads)))
        parts = [slice(start, start + num_at_once) for start in range(0, num_rows, num_at_once)]
        if len(parts) == 1:
            advance(parts[0])
        else:
            with ThreadPoolExecutor(self._num_threads) as pool:
                list(pool.map(advance, parts))
        return ids_RT, after


def packed(model: QuantizedModel) -> PackedModel:
    """Return a quantized model as the arrays that compiled code reads."""
    sizes_M2 = np.array([matrix.values_NK.shape for matrix in model.matrices])
    num_rows, num_columns = -(-sizes_M2.max(0) // TILE) * TILE
    by_row_MPQ = np.zeros((len(sizes_M2), num_rows, num_columns), np.int16)
    scales_MP = np.zeros((len(sizes_M2), num_rows), np.float32)
    for number, (values_NK, scale_N) in enumerate(model.matrices):
        by_row_MPQ[number, : values_NK.shape[0], : values_NK.shape[1]] = values_NK
        scales_MP[number, : len(scale_N)] = scale_N

    first_VG, *upper = (layer.base_VG for layer in model.layers)
    no_layers = np.zeros((0, first_VG.shape[1]), np.float32)
    return PackedModel(
        by_row_MPQ=by_row_MPQ,
        by_column_MQP=np.ascontiguousarray(by_row_MPQ.transpose(0, 2, 1), np.float32),
        scales_MP=scales_MP,
        sizes_M2=sizes_M2,
        first_VG=first_VG,
        upper_LG=np.concatenate([no_layers, *upper]),
        bias_V=model.bias_V,
        gate_table=GATE_TABLE,
        tanh_levels=TANH * np.float32(LEVELS),  # exact, because the products need only 22 bits
        gelu_table=GELU,
        next_SV=NEXT,
    )
