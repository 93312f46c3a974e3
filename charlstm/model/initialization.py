"""The weights of a fresh model, the same for either implementation and on every device.

Shapes: H hidden units.
"""

from typing import Literal, cast

import torch
from torch import Tensor, nn

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.feed_forward import FeedForward
from charlstm.model.layers import GatesLayer
from charlstm.model.shape import ModelShape

Initialization = Literal["orthogonal", "uniform"]


@torch.no_grad()
def initial_weights(
    shape: ModelShape,
    initialization: Initialization,
    *,
    forget_gate_bias: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """A fresh `state_dict` in fp32.

    `orthogonal`: recurrent weights orthogonal gate by gate (Saxe et al. 2014), the others uniform ±1/√H as in nn.LSTM,
    biases 0. `uniform`: matrices and biases uniform ±1/√(inputs), as in an nn.Linear for each.
    With both: embeddings standard normal as in nn.Embedding; the forget gate's bias has `forget_gate_bias` added, 1 in
    Jozefowicz et al. 2015, so that a fresh cell remembers; the feed-forward block's second matrix is 0, so that a fresh
    block adds nothing.
    """
    is_orthogonal = initialization == "orthogonal"

    def draw(linear: nn.Linear) -> None:
        bound: float = (shape.hidden_size if is_orthogonal else linear.in_features) ** -0.5
        nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
        if linear.bias is not None and is_orthogonal:
            nn.init.zeros_(linear.bias)
        elif linear.bias is not None:
            nn.init.uniform_(linear.bias, -bound, bound, generator=generator)

    model = CharLSTM(shape, "gates")
    if shape.embedding_size > 0:
        nn.init.normal_(model.embedding.weight, generator=generator)
    for layer in model.layers:
        cell = cast(GatesLayer, layer).cell
        for gate in (
            cell.forget_gate,
            cell.input_gate,
            cell.candidate,
            cell.output_gate,
        ):  # draws are in this order
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
