"""The character model: embedding -> stacked LSTM layers -> feed-forward block, if any -> linear head.

It knows nothing of training or hardware.
Shapes: B rows, T time steps, V vocabulary, E embedding features, L layers, H hidden units, S copies of the output.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from charlstm.dropout import DropoutMasks
from charlstm.feed_forward import FeedForward
from charlstm.gates import LSTMState
from charlstm.layers import FusedLayer, GatesLayer

Implementation = Literal["gates", "fused"]
Initialization = Literal["orthogonal", "uniform"]
LAYERS = {"gates": GatesLayer, "fused": FusedLayer}


class ModelShape(NamedTuple):
    """The sizes that decide which weights a model has. `implementation` is not one of them.

    `embedding_size` 0 is no embedding: characters are one-hot. `feed_forward_size` counts the block's inner features; 0
    is no block.
    """

    vocab_size: int
    embedding_size: int
    hidden_size: int
    num_layers: int
    feed_forward_size: int = 0  # models had no block once

    @property
    def input_size(self) -> int:
        """Features of a character below the first layer."""
        return self.embedding_size or self.vocab_size


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
        self.layers = nn.ModuleList(LAYERS[implementation](size, shape.hidden_size) for size in input_sizes)
        self.feed_forward = (
            FeedForward(shape.hidden_size, shape.feed_forward_size) if shape.feed_forward_size else nn.Identity()
        )
        self.head = nn.Linear(shape.hidden_size, shape.vocab_size)

    def forward(
        self, ids_BT: Tensor, state: LSTMState | None = None, masks: DropoutMasks | None = None
    ) -> tuple[Tensor, LSTMState]:
        """Logits (B, T, V) of the character after each of `ids_BT` (int64), and the state (L, B, H) after the last.

        `state` is the state before the first character, zero when None. `masks` is dropout; None means none. With
        masks for S copies of the output, the logits are (S B, T, V): all rows of the first copy, then of the next.
        """
        state = state or self.zero_state(ids_BT.shape[0])
        x_TBF = _mask(self.embedding(ids_BT.t()), masks.embedding if masks else None)
        last_states = []
        for index, layer in enumerate(self.layers):
            if masks and index > 0:
                x_TBF = _mask(x_TBF, masks.between_layers[index - 1])
            dropped = masks.recurrent_weights[index] if masks else None
            x_TBF, last_state = layer(x_TBF, LSTMState(state.hidden[index], state.cell[index]), dropped)
            last_states.append(last_state)
        if masks and self.shape.feed_forward_size:
            x_TBF = _mask(x_TBF, masks.between_layers[-1])
        x_STBF = _mask(self.feed_forward(x_TBF)[None], masks.output if masks else None)
        logits_STBV = self.head(x_STBF)
        hidden, cell = zip(*last_states, strict=True)
        return logits_STBV.transpose(1, 2).flatten(0, 1), LSTMState(torch.stack(hidden), torch.stack(cell))

    def zero_state(self, num_rows: int) -> LSTMState:
        """The state (L, B, H) before anything was read, on the model's device and in its dtype."""
        zeros_LBH = self.head.weight.new_zeros((self.shape.num_layers, num_rows, self.shape.hidden_size))
        return LSTMState(zeros_LBH, zeros_LBH)

    def num_parameters(self) -> int:
        """Trained numbers (nn.LSTM's unused second bias is not one)."""
        return sum(weight.numel() for weight in self.parameters() if weight.requires_grad)


def _mask(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask


def initial_weights(
    shape: ModelShape, initialization: Initialization, *, forget_gate_bias: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """A fresh `state_dict` in fp32, the same for either implementation and on every device.

    `orthogonal`: recurrent weights orthogonal gate by gate (Saxe et al. 2014), the others uniform ±1/√H as in nn.LSTM,
    biases 0. `uniform`: matrices and biases uniform ±1/√(features read), as in an nn.Linear for each.
    With both: embeddings standard normal as in nn.Embedding; the forget gate's bias has `forget_gate_bias` added, 1 in
    Jozefowicz et al. 2015, so that a fresh cell remembers; the feed-forward block's second matrix is 0, so that a fresh
    block adds nothing but its bias.
    """
    weights = CharLSTM(shape, "gates").state_dict()
    for name, weight in weights.items():
        if name.startswith("embedding"):
            if shape.embedding_size > 0:
                nn.init.normal_(weight, generator=generator)
        elif name == "feed_forward.down.weight":
            nn.init.zeros_(weight)
        elif initialization == "uniform":
            num_read = weights[name.replace(".bias", ".weight")].shape[1]
            nn.init.uniform_(weight, -(num_read**-0.5), num_read**-0.5, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(weight)
        elif "from_hidden" in name:
            nn.init.orthogonal_(weight, generator=generator)
        else:
            nn.init.uniform_(weight, -(shape.hidden_size**-0.5), shape.hidden_size**-0.5, generator=generator)
        if name.endswith("forget_gate.from_input.bias"):
            weight += forget_gate_bias
    return weights
