"""The character model: embedding -> stacked LSTM layers -> feed-forward block, if any -> linear head.

It knows nothing of training or hardware.
Shapes: B rows, T time steps, V vocabulary, E embedding features, L layers, H hidden units, S copies of the output.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from charlstm.model.dropout import DropoutMasks
from charlstm.model.feed_forward import FeedForward
from charlstm.model.gates import LSTMState
from charlstm.model.layers import FusedLayer, GatesLayer
from charlstm.model.resets import Resets, read_with_resets
from charlstm.model.shape import ModelShape

Implementation = Literal["gates", "fused"]
LAYERS = {"gates": GatesLayer, "fused": FusedLayer}


class CharLSTM(nn.Module):
    """p(next character | characters so far), as logits.

    `implementation` chooses how the layers are computed (`gates`: readable, `fused`: fast); weights, names and
    results are the same.
    """

    def __init__(self, shape: ModelShape, implementation: Implementation) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.input_size)
        if shape.embedding_size == 0:  # one-hot: the identity, never trained
            nn.init.eye_(self.embedding.weight).requires_grad_(False)
        input_sizes = [shape.input_size] + [shape.hidden_size] * (shape.num_layers - 1)
        self.layers = nn.ModuleList(
            LAYERS[implementation](size, shape.hidden_size) for size in input_sizes
        )
        self.feed_forward = (
            FeedForward(shape.hidden_size, shape.feed_forward_size)
            if shape.feed_forward_size
            else nn.Identity()
        )
        self.head = nn.Linear(shape.hidden_size, shape.vocab_size)

    def forward(
        self,
        ids_BT: Tensor,
        state: LSTMState | None = None,
        masks: DropoutMasks | None = None,
        resets: Resets | None = None,
    ) -> tuple[Tensor, LSTMState]:
        """Return logits (B, T, V) of the character after each of `ids_BT` (int64), and the state after the last.

        The arguments are those of `features`. With masks for S copies of the output, the logits are (S B, T, V): all
        rows of the first copy, then of the next.
        """
        features_STBH, end = self.features(ids_BT, state, masks, resets)
        return self.logits(features_STBH), end

    def features(
        self,
        ids_BT: Tensor,
        state: LSTMState | None = None,
        masks: DropoutMasks | None = None,
        resets: Resets | None = None,
    ) -> tuple[Tensor, LSTMState]:
        """Return what the head reads (S, T, B, H), and the state (L, B, H) after the last character.

        Args:
            state: before the first character; zero when None.
            masks: dropout; None means none.
            resets: where rows begin a document, which is read from a zero state.
        """
        state = state or self.zero_state(ids_BT.shape[0])
        x_TBF = _mask(self.embedding(ids_BT.t()), masks.embedding if masks else None)
        last_states = []
        for index, layer in enumerate(self.layers):
            if masks and index > 0:
                x_TBF = _mask(x_TBF, masks.between_layers[index - 1])
            start = LSTMState(state.hidden[index], state.cell[index])
            x_TBF, last_state = read_with_resets(layer, x_TBF, start, resets, time_dim=0)
            last_states.append(last_state)
        if masks and self.shape.feed_forward_size:
            x_TBF = _mask(x_TBF, masks.between_layers[-1])
        features_STBH = _mask(self.feed_forward(x_TBF)[None], masks.output if masks else None)
        hidden, cell = zip(*last_states, strict=True)
        return features_STBH, LSTMState(torch.stack(hidden), torch.stack(cell))

    def logits(self, features_STBH: Tensor) -> Tensor:
        """Return logits (S B, T, V) of features (S, T, B, H)."""
        logits_STBV: Tensor = self.head(features_STBH)
        return logits_STBV.transpose(1, 2).flatten(0, 1)

    def logits_after(self, state: LSTMState) -> Tensor:
        """Logits (B, V) of the character after all that `state` (L, B, H) has read; dropout is not for this."""
        logits_BV: Tensor = self.head(self.feed_forward(state.hidden[-1]))
        return logits_BV

    def zero_state(self, num_rows: int) -> LSTMState:
        """The state (L, B, H) before anything was read, on the model's device and in its dtype."""
        zeros_LBH = self.head.weight.new_zeros(
            (self.shape.num_layers, num_rows, self.shape.hidden_size)
        )
        return LSTMState(zeros_LBH, zeros_LBH)


def _mask(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask
