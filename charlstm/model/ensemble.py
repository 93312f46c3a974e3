"""Several models as one: the mean of their probabilities. It has the interface by which models are evaluated.

Shapes: M models, B rows, T time steps, V vocabulary, L layers, H hidden units.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState


class Ensemble(nn.Module):
    """Models of one shape, e.g. of one recipe trained with several seeds."""

    def __init__(self, models: Sequence[CharLSTM]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.shape = models[0].shape

    def forward(self, ids_BT: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Logits (B, T, V) of the mean probabilities, and the states (M L, B, H) of all models on top of each other."""
        state = state or self.zero_state(len(ids_BT))
        states = zip(*(part.chunk(len(self.models)) for part in state), strict=True)
        results = [model(ids_BT, LSTMState(*one)) for model, one in zip(self.models, states, strict=True)]
        logits_MBTV = torch.stack([logits_BTV for logits_BTV, _ in results])
        ends = zip(*(end for _, end in results), strict=True)
        return logits_MBTV.log_softmax(-1).logsumexp(0), LSTMState(*(torch.cat(parts) for parts in ends))

    def zero_state(self, num_rows: int) -> LSTMState:
        """The states (M L, B, H) before anything was read."""
        states = [cast(CharLSTM, model).zero_state(num_rows) for model in self.models]
        return LSTMState(*(torch.cat(parts) for parts in zip(*states, strict=True)))
