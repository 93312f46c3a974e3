"""The LSTM cell, gate by gate, as its equations read (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000).

    f_t = σ(W_xf x_t + W_hf h_{t-1} + b_f)        forget gate: how much of the old cell state stays
    i_t = σ(W_xi x_t + W_hi h_{t-1} + b_i)        input gate: how much of the candidate enters
    c̃_t = tanh(W_xc x_t + W_hc h_{t-1} + b_c)     candidate: what would enter
    o_t = σ(W_xo x_t + W_ho h_{t-1} + b_o)        output gate: how much of the cell state shows
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ c̃_t
    h_t = o_t ⊙ tanh(c_t)

Shapes: B rows, I input features, H hidden units, L layers.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class LSTMState(NamedTuple):
    """Hidden state h and cell state c: (B, H) for one layer, (L, B, H) for a stack."""

    hidden: Tensor
    cell: Tensor

    def detach(self) -> "LSTMState":
        """The state without its graph: truncated back-propagation stops here."""
        return LSTMState(self.hidden.detach(), self.cell.detach())

    def rows(self, rows: slice) -> "LSTMState":
        """Some rows of a stack's state, (L, B, H)."""
        return LSTMState(self.hidden[:, rows], self.cell[:, rows])


class Gate(nn.Module):
    """The common beginning of all gates: W_x x_t + W_h h_{t-1} + b, with weights of their own."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.from_input = nn.Linear(input_size, hidden_size)  # W_x and b
        self.from_hidden = nn.Linear(hidden_size, hidden_size, bias=False)  # W_h

    def weighted_sum(self, x_BI: Tensor, hidden_BH: Tensor) -> Tensor:
        """The weighted sum of both inputs, (B, H): any real numbers."""
        total_BH: Tensor = self.from_input(x_BI) + self.from_hidden(hidden_BH)
        return total_BH


class ForgetGate(Gate):
    """f_t = σ(W_xf x_t + W_hf h_{t-1} + b_f), of shape (B, H) and in (0, 1)."""

    def forward(self, x_BI: Tensor, hidden_BH: Tensor) -> Tensor:
        """The share of each cell that is kept."""
        return torch.sigmoid(self.weighted_sum(x_BI, hidden_BH))


class InputGate(Gate):
    """i_t = σ(W_xi x_t + W_hi h_{t-1} + b_i), of shape (B, H) and in (0, 1)."""

    def forward(self, x_BI: Tensor, hidden_BH: Tensor) -> Tensor:
        """The share of each candidate that enters the cell."""
        return torch.sigmoid(self.weighted_sum(x_BI, hidden_BH))


class Candidate(Gate):
    """c̃_t = tanh(W_xc x_t + W_hc h_{t-1} + b_c), of shape (B, H) and in (-1, 1)."""

    def forward(self, x_BI: Tensor, hidden_BH: Tensor) -> Tensor:
        """The values that could be written into the cell."""
        return torch.tanh(self.weighted_sum(x_BI, hidden_BH))


class OutputGate(Gate):
    """o_t = σ(W_xo x_t + W_ho h_{t-1} + b_o), of shape (B, H) and in (0, 1)."""

    def forward(self, x_BI: Tensor, hidden_BH: Tensor) -> Tensor:
        """The share of each cell that shows in the hidden state."""
        return torch.sigmoid(self.weighted_sum(x_BI, hidden_BH))


class LSTMCell(nn.Module):
    """One time step of one layer: (x_t, (h_{t-1}, c_{t-1})) -> (h_t, c_t)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.forget_gate = ForgetGate(input_size, hidden_size)
        self.input_gate = InputGate(input_size, hidden_size)
        self.candidate = Candidate(input_size, hidden_size)
        self.output_gate = OutputGate(input_size, hidden_size)

    def forward(self, x_BI: Tensor, state: LSTMState) -> LSTMState:
        """The state after reading `x_BI`; its `hidden` (B, H) is the step's output."""
        forget_BH = self.forget_gate(x_BI, state.hidden)
        input_BH = self.input_gate(x_BI, state.hidden)
        candidate_BH = self.candidate(x_BI, state.hidden)
        output_BH = self.output_gate(x_BI, state.hidden)

        cell_BH = forget_BH * state.cell + input_BH * candidate_BH
        return LSTMState(hidden=output_BH * torch.tanh(cell_BH), cell=cell_BH)
