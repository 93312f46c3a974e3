"""The LSTM cell, gate by gate (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000).

    f_t = σ(W_xf x_t + W_hf h_{t-1} + b_f)        forget gate: share of the cell state that is kept
    i_t = σ(W_xi x_t + W_hi h_{t-1} + b_i)        input gate: share of the candidate that is added
    c̃_t = tanh(W_xc x_t + W_hc h_{t-1} + b_c)     candidate: values that may be added
    o_t = σ(W_xo x_t + W_ho h_{t-1} + b_o)        output gate: share of the cell state to output
    c_t = f_t ⊙ c_{t-1} + i_t ⊙ c̃_t               cell state: the memory
    h_t = o_t ⊙ tanh(c_t)                         hidden state: the output

Shapes: B rows, I input features, H hidden units, L layers.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class LSTMState(NamedTuple):
    """Hidden state h and cell state c: (B, H) for one layer, (L, B, H) for a stack of layers."""

    hidden: Tensor
    cell: Tensor

    def detach(self) -> "LSTMState":
        """Return the state detached from the graph, so that back-propagation goes no further."""
        return LSTMState(self.hidden.detach(), self.cell.detach())

    def rows(self, rows: slice) -> "LSTMState":
        """Return the selected batch rows of the state (L, B, H) of all layers."""
        return LSTMState(self.hidden[:, rows], self.cell[:, rows])


class LSTMCell(nn.Module):
    """One time step of one LSTM layer, which computes h_t and c_t from x_t, h_{t-1} and c_{t-1}."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.forget_gate = ForgetGate(input_size, hidden_size)
        self.input_gate = InputGate(input_size, hidden_size)
        self.candidate = Candidate(input_size, hidden_size)
        self.output_gate = OutputGate(input_size, hidden_size)

    def forward(self, x_BI: Tensor, state: LSTMState) -> LSTMState:
        """Return the state after the input `x_BI`. The hidden state (B, H) is the output."""
        forget_BH = self.forget_gate(x_BI, state.hidden)
        input_BH = self.input_gate(x_BI, state.hidden)
        candidate_BH = self.candidate(x_BI, state.hidden)
        output_BH = self.output_gate(x_BI, state.hidden)

        cell_BH = forget_BH * state.cell + input_BH * candidate_BH
        hidden_BH = output_BH * torch.tanh(cell_BH)
        return LSTMState(hidden_BH, cell_BH)


class Gate(nn.Module):
    """Base class of the four gates, which computes the weighted sum of a gate's inputs."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.from_input = nn.Linear(input_size, hidden_size)  # W_x and b
        self.from_hidden = nn.Linear(hidden_size, hidden_size, bias=False)  # W_h

    def weighted_sum(self, x_BI: Tensor, hidden_BH: Tensor) -> Tensor:
        """Return W_x x_t + W_h h_{t-1} + b, of shape (B, H)."""
        sum_BH: Tensor = self.from_input(x_BI) + self.from_hidden(hidden_BH)
        return sum_BH


class ForgetGate(Gate):
    """The forget gate: f_t = σ(W_xf x_t + W_hf h_{t-1} + b_f)."""

    def forward(self, x_BI: Tensor, hidden_BH: Tensor) -> Tensor:
        """Return the share (B, H) of the cell state to keep: values between 0 and 1."""
        return torch.sigmoid(self.weighted_sum(x_BI, hidden_BH))


class InputGate(Gate):
    """The input gate: i_t = σ(W_xi x_t + W_hi h_{t-1} + b_i)."""

    def forward(self, x_BI: Tensor, hidden_BH: Tensor) -> Tensor:
        """Return the share (B, H) of the candidate to add: values between 0 and 1."""
        return torch.sigmoid(self.weighted_sum(x_BI, hidden_BH))


class Candidate(Gate):
    """The candidate: c̃_t = tanh(W_xc x_t + W_hc h_{t-1} + b_c)."""

    def forward(self, x_BI: Tensor, hidden_BH: Tensor) -> Tensor:
        """Return the candidate values (B, H) for the cell state: values between -1 and 1."""
        return torch.tanh(self.weighted_sum(x_BI, hidden_BH))


class OutputGate(Gate):
    """The output gate: o_t = σ(W_xo x_t + W_ho h_{t-1} + b_o)."""

    def forward(self, x_BI: Tensor, hidden_BH: Tensor) -> Tensor:
        """Return the share (B, H) of the cell state to output: values between 0 and 1."""
        return torch.sigmoid(self.weighted_sum(x_BI, hidden_BH))
