"""An exported model under onnxruntime, on one CPU thread: as models are evaluated, and one character at a time.

Shapes: B rows, T time steps, V vocabulary, L layers, H hidden units.
"""

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.model.char_lstm import ModelShape
from charlstm.model.gates import LSTMState

Floats = NDArray[np.float32]


class OnnxModel:
    """The file of `onnx_bytes` or `int8_bytes`, of a model with this shape."""

    def __init__(self, file: bytes, shape: ModelShape) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.shape = shape

    def __call__(self, ids_BT: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Logits (B, T, V) of the character after each of `ids_BT` (int64), and the state (L, B, H) after the last."""
        logits_BTV, *end = self.run(ids_BT.numpy(), state.hidden.numpy(), state.cell.numpy())
        return torch.from_numpy(logits_BTV), LSTMState(*map(torch.from_numpy, end))

    def zero_state(self, num_rows: int) -> LSTMState:
        """The state (L, B, H) before anything was read."""
        zeros_LBH = torch.zeros(self.shape.num_layers, num_rows, self.shape.hidden_size)
        return LSTMState(zeros_LBH, zeros_LBH)

    def run(self, ids_BT: NDArray[np.int64], hidden_LBH: Floats, cell_LBH: Floats) -> tuple[Floats, Floats, Floats]:
        """The same in numpy: logits (B, T, V), hidden and cell (L, B, H)."""
        logits_BTV, hidden_LBH, cell_LBH = self._session.run(
            ["logits", "hidden_out", "cell_out"], {"ids": ids_BT, "hidden": hidden_LBH, "cell": cell_LBH}
        )
        return logits_BTV, hidden_LBH, cell_LBH


class OnnxStepper:
    """One row, one character at a time, from the state before anything was read."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        start = model.zero_state(1)
        self._hidden_LBH, self._cell_LBH = start.hidden.numpy(), start.cell.numpy()

    def step(self, index: int) -> Tensor:
        """Read the character with id `index`; the logits (V,) of the next one."""
        ids_BT = np.array([[index]], np.int64)
        logits_BTV, self._hidden_LBH, self._cell_LBH = self._model.run(ids_BT, self._hidden_LBH, self._cell_LBH)
        return torch.from_numpy(logits_BTV[0, 0])
