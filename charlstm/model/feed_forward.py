"""A feed-forward block between the LSTM and the head: the "deep output" of Pascanu et al. 2014, as a residual.

An LSTM's state has two tasks: to remember, and to predict the next character. The block takes over part of the second.
Shapes: H hidden units, F inner features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class FeedForward(nn.Module):
    """h + W_down gelu(W_up h): hidden states (..., H) to (..., H). GELU: Hendrycks & Gimpel 2016."""

    def __init__(self, hidden_size: int, inner_size: int) -> None:
        super().__init__()
        self.up = nn.Linear(hidden_size, inner_size, bias=False)  # W_up
        self.down = nn.Linear(inner_size, hidden_size, bias=False)  # W_down, zero in a fresh model

    def forward(self, hidden: Tensor) -> Tensor:
        """The hidden states with what the block adds to them."""
        added: Tensor = self.down(functional.gelu(self.up(hidden)))
        return torch.add(hidden, added)
