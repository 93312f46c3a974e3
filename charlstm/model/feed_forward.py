"""The feed-forward block between the LSTM and the head ("deep output", Pascanu et al. 2014).

The hidden state of an LSTM has two tasks: to remember, and to predict the next character. The
block takes over part of the prediction.

Shapes: H hidden units.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class FeedForward(nn.Module):
    """A residual block that computes h + W_down gelu(W_up h) for hidden states h (..., H).

    The activation function GELU is from Hendrycks & Gimpel 2016.
    """

    def __init__(self, hidden_size: int, inner_size: int) -> None:
        super().__init__()
        self.up = nn.Linear(hidden_size, inner_size, bias=False)  # W_up
        self.down = nn.Linear(inner_size, hidden_size, bias=False)  # W_down, zero in a new model

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the hidden states plus the block's output (a residual connection)."""
        return torch.add(hidden, self.down(functional.gelu(self.up(hidden))))
