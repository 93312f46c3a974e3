"""Initial weights of a new model, identical for both implementations and on every device.

Shapes: H hidden units.
"""

from typing import cast

import torch
from torch import Tensor, nn

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.feed_forward import FeedForward
from charlstm.model.layers import GatesLayer
from charlstm.model.shape import Initialization, ModelShape


@torch.no_grad()
def initial_weights(
    shape: ModelShape,
    initialization: Initialization,
    *,
    forget_gate_bias: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Return randomly initialized weights as a `state_dict` in fp32.

    `orthogonal`: every gate's recurrent matrix is orthogonal (Saxe et al. 2014), all other matrices
    are uniform within ±1/√H as in nn.LSTM, and biases are 0. `uniform`: matrices and biases are
    uniform within ±1/√(inputs), as in nn.Linear.

    In both cases, embeddings are standard normal, as in nn.Embedding. `forget_gate_bias` is added
    to the forget gate's bias, so that a new cell remembers (Jozefowicz et al. 2015 add 1). The
    second matrix of the feed-forward block is 0, so that a new block adds nothing.
    """
    is_orthogonal = initialization == "orthogonal"

    def draw(linear: nn.Linear) -> None:
        bound: float = (shape.hidden_size if is_orthogonal else linear.in_features) ** -0.5
        nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
        if linear.bias is None:
            return
        if is_orthogonal:
            nn.init.zeros_(linear.bias)
        else:
            nn.init.uniform_(linear.bias, -bound, bound, generator=generator)

    # Changing the order of these random numbers would change the weights.
    model = CharLSTM(shape, "gates")
    if shape.embedding_size > 0:
        nn.init.normal_(model.embedding.weight, generator=generator)

    for layer in model.layers:
        cell = cast(GatesLayer, layer).cell
        for gate in (cell.forget_gate, cell.input_gate, cell.candidate, cell.output_gate):
            draw(gate.from_input)
            if is_orthogonal:
                nn.init.orthogonal_(gate.from_hidden.weight, generator=generator)
            else:
                draw(gate.from_hidden)
        cell.forget_gate.from_input.bias.add_(forget_gate_bias)

    if isinstance(model.feed_forward, FeedForward):
        draw(model.feed_forward.up)
        nn.init.zeros_(model.feed_forward.down.weight)
    draw(model.head)
    return model.state_dict()
