"""One LSTM layer applied to a sequence, computed gate by gate or by `nn.LSTM`.

Both implementations save the same weights under the same names, so each loads the other's models.

Shapes: T time steps, B rows, I input features, H hidden units.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from charlstm.model.gates import LSTMCell, LSTMState
from charlstm.model.shape import GATES, gate_weight_names

# Name of a weight in every gate -> name of the weight in nn.LSTM that stacks all four.
STACKED_NAMES = {
    "from_input.weight": "weight_ih_l0",
    "from_input.bias": "bias_ih_l0",
    "from_hidden.weight": "weight_hh_l0",
}


class GatesLayer(nn.Module):
    """A readable LSTM layer, which applies the cell from `gates.py` to each time step in turn."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = LSTMCell(input_size, hidden_size)

    def forward(self, x_TBI: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Return the hidden states (T, B, H) of all steps, and the state after the last step."""
        hidden_states = []
        for x_BI in x_TBI:
            state = self.cell(x_BI, state)
            hidden_states.append(state.hidden)
        return torch.stack(hidden_states), state


class FusedLayer(nn.Module):
    """A fast LSTM layer, which uses `nn.LSTM` to compute the same function as `GatesLayer`.

    `nn.LSTM` adds two biases where the equations have one. The second bias stays zero and is not
    trained. If both were trained, an optimizer with per-weight steps (Adam) would move their sum
    twice as fast.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size)
        self.lstm.get_parameter("bias_hh_l0").requires_grad_(False).zero_()
        self.register_state_dict_post_hook(_split_into_gates)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_join_gates)  # type: ignore[no-untyped-call]

    def forward(self, x_TBI: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Return the hidden states (T, B, H) of all steps, and the state after the last step."""
        start = (state.hidden[None], state.cell[None])
        device = x_TBI.device.type

        # Some device types, such as "meta", do not support autocast.
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            # Autocast would run cuDNN's LSTM in fp16 even if bf16 was requested.
            with torch.autocast(device, enabled=False):
                dtype = torch.get_autocast_dtype(device)
                hidden_TBH, hidden_1BH, cell_1BH = self._forward_in(dtype, x_TBI, start)
        else:
            hidden_TBH, (hidden_1BH, cell_1BH) = self.lstm(x_TBI, start)
        return hidden_TBH, LSTMState(hidden_1BH[0], cell_1BH[0])

    def _forward_in(
        self, dtype: torch.dtype, x_TBI: Tensor, start: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Call `torch.lstm` as `nn.LSTM` does, with inputs and weights cast to `dtype`."""
        weights = list(self.lstm.parameters())
        # Unless the weights are contiguous and in this order, cuDNN copies them at every call.
        flat = torch.cat([weight.flatten() for weight in weights]).to(dtype)
        parts = torch.split(flat, [weight.numel() for weight in weights])
        return torch.lstm(
            x_TBI.to(dtype),
            [tensor.to(dtype) for tensor in start],
            [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)],
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=self.training,
            bidirectional=False,
            batch_first=False,
        )


def stacked(weights: Mapping[str, Tensor], layer: int, part: str, gates: Sequence[str]) -> Tensor:
    """Stack one weight of every gate in a layer, in the order of `gates`.

    `weights` is the `state_dict` of a `CharLSTM`. `part` names the weight within its gate, for
    example `from_input.weight`.
    """
    return torch.cat([weights[f"layers.{layer}.cell.{gate}.{part}"] for gate in gates])


def _split_into_gates(
    layer: nn.Module, weights: dict[str, Tensor], prefix: str, _: Mapping[str, Any]
) -> None:
    """Split the stacked weights in the result of `state_dict()` into one weight per gate."""
    del weights[f"{prefix}lstm.bias_hh_l0"]
    for part, stacked_name in STACKED_NAMES.items():
        rows_of_gates = weights.pop(f"{prefix}lstm.{stacked_name}").chunk(len(GATES))
        for name, rows in zip(gate_weight_names(part), rows_of_gates, strict=True):
            weights[prefix + name] = rows


def _join_gates(layer: nn.Module, weights: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Stack the gates' weights under nn.LSTM's names, before `load_state_dict()` reads them."""
    for part, stacked_name in STACKED_NAMES.items():
        rows_of_gates = [weights.pop(prefix + name) for name in gate_weight_names(part)]
        weights[f"{prefix}lstm.{stacked_name}"] = torch.cat(rows_of_gates)
    weights[f"{prefix}lstm.bias_hh_l0"] = torch.zeros_like(weights[f"{prefix}lstm.bias_ih_l0"])


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
