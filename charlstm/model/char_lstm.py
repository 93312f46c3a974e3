"""The character model: embedding, stacked LSTM layers, optional feed-forward block, linear head.

The code of the model does not depend on training or on the hardware.

Shapes: B rows, T time steps, V vocabulary, F features, L layers, H hidden units, S output masks.
"""

import torch
from torch import Tensor, nn

from charlstm.model.dropout import DropoutMasks
from charlstm.model.gates import LSTMState
from charlstm.model.layers import FeedForward, FusedLayer, GatesLayer
from charlstm.model.shape import Implementation, ModelShape


class CharLSTM(nn.Module):
    """A character-level LSTM, which computes logits of p(next character | previous characters).

    `implementation` selects how the layers are computed: `gates` is readable, `fused` is fast. Both
    have the same weights under the same names and compute the same results.
    """

    def __init__(self, shape: ModelShape, implementation: Implementation) -> None:
        super().__init__()
        self.shape = shape

        self.embedding = nn.Embedding(shape.vocab_size, shape.input_size)
        if shape.embedding_size == 0:
            # Characters are one-hot: the embedding is the identity matrix and is not trained.
            nn.init.eye_(self.embedding.weight).requires_grad_(False)

        layer = GatesLayer if implementation == "gates" else FusedLayer
        input_sizes = [shape.input_size] + [shape.hidden_size] * (shape.num_layers - 1)
        self.layers = nn.ModuleList(layer(size, shape.hidden_size) for size in input_sizes)

        self.feed_forward: nn.Module = nn.Identity()
        if shape.feed_forward_size > 0:
            self.feed_forward = FeedForward(shape.hidden_size, shape.feed_forward_size)

        self.head = nn.Linear(shape.hidden_size, shape.vocab_size)

    def forward(self, ids_BT: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Return the next-character logits (B, T, V) and the final state (L, B, H).

        Args:
            ids_BT: int64 ids of the input characters.
            state: the state before the first character; None means the zero state.
        """
        features_1TBH, end = self.features(ids_BT, state)
        return self.logits(features_1TBH), end

    def features(
        self,
        ids_BT: Tensor,
        state: LSTMState | None = None,
        masks: DropoutMasks | None = None,
    ) -> tuple[Tensor, LSTMState]:
        """Return the features (S, T, B, H) that the head receives, and the final state (L, B, H).

        Args:
            ids_BT: int64 ids of the input characters.
            state: the state before the first character; None means the zero state.
            masks: dropout masks; None means no dropout. S is the number of output masks, or 1 if
                there are none.
        """
        state = state or self.zero_state(len(ids_BT))
        masks = masks or DropoutMasks(None, (None,) * self.shape.num_layers, None)
        # One mask for the input of each layer. A feed-forward block counts as the last layer.
        input_masks = (masks.embedding, *masks.between_layers)

        x_TBF = self.embedding(ids_BT.t())
        ends = []
        for index, layer in enumerate(self.layers):
            x_TBF = _mask(x_TBF, input_masks[index])
            start = LSTMState(state.hidden[index], state.cell[index])
            x_TBF, end = layer(x_TBF, start)
            ends.append(end)

        if self.shape.feed_forward_size > 0:
            x_TBF = self.feed_forward(_mask(x_TBF, input_masks[-1]))
        features_STBH = _mask(x_TBF[None], masks.output)
        return features_STBH, LSTMState(*map(torch.stack, zip(*ends, strict=True)))

    def logits(self, features_STBH: Tensor) -> Tensor:
        """Return the logits (S B, T, V). The S copies of the batch follow one another."""
        logits_STBV: Tensor = self.head(features_STBH)
        return logits_STBV.transpose(1, 2).flatten(0, 1)

    def logits_after(self, state: LSTMState) -> Tensor:
        """Return the logits (B, V) of the next character, given the current state (L, B, H)."""
        logits_BV: Tensor = self.head(self.feed_forward(state.hidden[-1]))
        return logits_BV

    def zero_state(self, num_rows: int) -> LSTMState:
        """Return the all-zero initial state (L, B, H) with the model's device and dtype."""
        zeros_LBH = self.head.weight.new_zeros(
            (self.shape.num_layers, num_rows, self.shape.hidden_size)
        )
        return LSTMState(zeros_LBH, zeros_LBH)


def _mask(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask
