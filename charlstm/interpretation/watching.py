"""Looking into the gates of a model while it reads, and reaching into its cells: held cells keep one value.

Shapes: B rows, H hidden units, K held cells.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.model.layers import GatesLayer

PIECE = 50  # characters of a row at a time; bounds memory, and has no influence on what is computed

OnGate = Callable[[int, Tensor], None]
OnCell = Callable[[int, LSTMState], LSTMState | None]


class Held(NamedTuple):
    """Row `row` of a batch has cell `unit` of layer `layer` at `value` after every step."""

    row: int
    layer: int
    unit: int
    value: float


def readable(model: CharLSTM) -> CharLSTM:
    """A copy in fp32 with the gates of `gates.py`, which can be watched one by one, on the same device."""
    copy = CharLSTM(model.shape, "gates").to(model.head.weight.device)
    copy.load_state_dict(model.state_dict())
    return copy.requires_grad_(False).eval()


@contextmanager
def watched(model: CharLSTM, on_gates: dict[str, OnGate], on_cell: OnCell) -> Iterator[None]:
    """While this lasts, a `readable` model reports each step of each layer, its gates before its cell.

    Args:
        on_gates: by a gate's name, what is told the layer's index and the gate's values (B, H).
        on_cell: told the layer's index and its new state (B, H); what it returns takes the state's place.
    """
    with ExitStack() as hooks:
        for index, layer in enumerate(model.layers):
            cell = cast(GatesLayer, layer).cell
            for name, on_gate in on_gates.items():
                hooks.callback(cell.get_submodule(name).register_forward_hook(_gate_hook(on_gate, index)).remove)
            hooks.callback(cell.register_forward_hook(_cell_hook(on_cell, index)).remove)
        yield


@contextmanager
def holding(model: CharLSTM, held: list[Held]) -> Iterator[None]:
    """While this lasts, those cells are not computed but held. Each row has at most one of them."""
    output_gates: dict[int, Tensor] = {}
    device = model.head.weight.device
    by_layer = {
        layer: (
            torch.tensor([one.row for one in held if one.layer == layer], device=device),
            torch.tensor([one.unit for one in held if one.layer == layer], device=device),
            torch.tensor([one.value for one in held if one.layer == layer], device=device),
        )
        for layer in {one.layer for one in held}
    }

    def hold(layer: int, state: LSTMState) -> LSTMState | None:
        if layer not in by_layer:
            return None
        rows_K, units_K, values_K = by_layer[layer]
        at = (rows_K, units_K)
        shown_K = output_gates[layer][at] * torch.tanh(values_K)
        return LSTMState(state.hidden.index_put(at, shown_K), state.cell.index_put(at, values_K))

    with watched(model, {"output_gate": output_gates.__setitem__}, hold):
        yield


def run_layers(model: CharLSTM, ids_BT: Tensor) -> None:
    """Let the layers read the ids from a zero state, for those who watch; what is above them is not computed."""
    zero = model.zero_state(len(ids_BT))
    states = [LSTMState(*parts) for parts in zip(*zero, strict=True)]
    for piece_BT in torch.split(ids_BT.to(zero.hidden.device), PIECE, dim=1):
        x_TBF = model.embedding(piece_BT.t())
        for index, layer in enumerate(model.layers):
            x_TBF, states[index] = layer(x_TBF, states[index])


def _gate_hook(on_gate: OnGate, layer: int) -> Callable[[nn.Module, Any, Tensor], None]:
    return lambda _module, _inputs, gate_BH: on_gate(layer, gate_BH)


def _cell_hook(on_cell: OnCell, layer: int) -> Callable[[nn.Module, Any, LSTMState], LSTMState | None]:
    return lambda _module, _inputs, state: on_cell(layer, state)
