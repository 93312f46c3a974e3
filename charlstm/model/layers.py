"""One LSTM layer along a sequence, gate by gate or by `nn.LSTM`; resets where a document begins; dropout masks.

Both have the gates' weights: `state_dict()` of either has the same names and shapes, so either loads the other's.
Shapes: T time steps, B rows, I input features, H hidden units, L layers, N cuts of a batch, F features, S copies.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from charlstm.model.gates import LSTMCell, LSTMState
from charlstm.model.shape import GATES, gate_weight_names


def stacked(weights: Mapping[str, Tensor], layer: int, part: str, gates: Sequence[str]) -> Tensor:
    """One part (`from_input.weight`, ...) of all gates in a `CharLSTM`'s `state_dict`, end to end in this order."""
    return torch.cat([weights[f"layers.{layer}.cell.{gate}.{part}"] for gate in gates])


class GatesLayer(nn.Module):
    """The readable layer: the cell of `gates.py`, one time step after the other."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cell = LSTMCell(input_size, hidden_size)

    def forward(self, x_TBI: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Hidden states (T, B, H) of all steps, and the state after the last one."""
        hidden_states = []
        for x_BI in x_TBI:
            state = self.cell(x_BI, state)
            hidden_states.append(state.hidden)
        return torch.stack(hidden_states), state


class FusedLayer(nn.Module):
    """The fast layer: one `nn.LSTM`, the same function of the same weights.

    `nn.LSTM` adds two biases where the equations have one. The second stays zero and is not trained: with both, an
    optimizer with per-weight steps (Adam) would move the sum twice as fast as the gates' single bias.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size)
        self.lstm.get_parameter("bias_hh_l0").requires_grad_(False).zero_()
        self.register_state_dict_post_hook(_split_into_gates)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_join_gates)  # type: ignore[no-untyped-call]

    def forward(self, x_TBI: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Hidden states (T, B, H) of all steps, and the state after the last one."""
        start, device_type = (state.hidden[None], state.cell[None]), x_TBI.device.type
        # Not every kind of device knows autocast.
        if torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
            dtype = torch.get_autocast_dtype(device_type)
            # Autocast runs cuDNN's LSTM in fp16 whatever dtype it was told, so the casts are made by hand.
            with torch.autocast(device_type, enabled=False):
                hidden_TBH, hidden_1BH, cell_1BH = self._in(dtype, x_TBI, start)
        else:
            hidden_TBH, (hidden_1BH, cell_1BH) = self.lstm(x_TBI, start)
        return hidden_TBH, LSTMState(hidden_1BH[0], cell_1BH[0])

    def _in(
        self, dtype: torch.dtype, x_TBI: Tensor, start: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The call that `nn.LSTM` makes, in another dtype."""
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weights = [self.lstm.get_parameter(name) for name in names]
        # cuDNN wants them end to end in this order, and copies them at every call otherwise.
        flat = torch.cat([weight.flatten() for weight in weights]).to(dtype)
        parts = torch.split(flat, [weight.numel() for weight in weights])
        return torch.lstm(
            x_TBI.to(dtype),
            [one.to(dtype) for one in start],
            [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)],
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=self.training,
            bidirectional=False,
            batch_first=False,
        )


def _split_into_gates(
    layer: nn.Module, weights: dict[str, Tensor], prefix: str, _: Mapping[str, Any]
) -> None:
    """After `state_dict()`: nn.LSTM's stacked weights become the gates' names."""
    del weights[f"{prefix}lstm.bias_hh_l0"]
    of_all_gates = {
        "from_input.weight": weights.pop(f"{prefix}lstm.weight_ih_l0"),
        "from_input.bias": weights.pop(f"{prefix}lstm.bias_ih_l0"),
        "from_hidden.weight": weights.pop(f"{prefix}lstm.weight_hh_l0"),
    }
    for name, rows in of_all_gates.items():
        for gate_name, part in zip(gate_weight_names(name), rows.chunk(len(GATES)), strict=True):
            weights[f"{prefix}{gate_name}"] = part


def _join_gates(layer: nn.Module, weights: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Before `load_state_dict()`: the gates' names become nn.LSTM's stacked weights."""

    def stack(name: str) -> Tensor:
        return torch.cat(
            [weights.pop(f"{prefix}{gate_name}") for gate_name in gate_weight_names(name)]
        )

    weights[f"{prefix}lstm.weight_ih_l0"] = stack("from_input.weight")
    weights[f"{prefix}lstm.weight_hh_l0"] = stack("from_hidden.weight")
    weights[f"{prefix}lstm.bias_ih_l0"] = stack("from_input.bias")
    weights[f"{prefix}lstm.bias_hh_l0"] = torch.zeros_like(weights[f"{prefix}lstm.bias_ih_l0"])
