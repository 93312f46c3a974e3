"""A quantized model as the protocols ask for one, so that 8-bit weights are scored as float32 ones are.

Shapes: L layers, B rows, T characters, V vocabulary, H hidden units.
"""

import torch
from torch import Tensor

from charlstm.generation.quantized import quantize
from charlstm.generation.stepper import QuantizedState, Stepper
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState


class QuantizedLanguageModel:
    """`model` in 8 bits."""

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
