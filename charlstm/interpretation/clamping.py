"""What a cell does for the model: the nats that are lost when it is clamped to its mean.

Shapes: B rows, T scored time steps, C cells, N = B T characters.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from charlstm.interpretation.labels import Floats
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.model.layers import GatesLayer
from charlstm.seeds import numpy_generator
from charlstm.text.vocabulary import Ids, Vocab

# Looking into the gates of a model while it reads, and reaching into its cells: held cells keep one value.
#
# Shapes: B rows, H hidden units, K held cells.

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


# What is lost without a cell.

MAX_ROWS = 512  # read side by side
MAX_LOGITS = 2**23  # at a time; bounds memory, and has no influence on what is computed


class Clamp(NamedTuple):
    """A cell, and the value that it is to have all the time."""

    layer: int
    unit: int
    value: float


@torch.no_grad()
def nats_lost(model: CharLSTM, ids_BT: Tensor, clamps: Sequence[Clamp], num_unscored: int) -> Floats:
    """How much worse (C, N) each next character is predicted when a cell is clamped, one cell at a time.

    Args:
        model: a `readable` one.
        ids_BT: rows (B, num_unscored + T + 1), int64. A cell is clamped from the first character on.
    """
    plain_N = _nats(model, ids_BT, [], num_unscored)
    per_pass = max(1, MAX_ROWS // len(ids_BT))
    found = []
    for start in range(0, len(clamps), per_pass):
        some = clamps[start : start + per_pass]
        held = [
            Held(row + index * len(ids_BT), *clamp) for index, clamp in enumerate(some) for row in range(len(ids_BT))
        ]
        found.append(_nats(model, ids_BT.repeat(len(some), 1), held, num_unscored).reshape(len(some), -1))
    return (torch.cat(found) - plain_N).numpy()


def _nats(model: CharLSTM, ids_BT: Tensor, held: list[Held], num_unscored: int) -> Tensor:
    """Nats (N,) of each scored character, row after row, float64 on the CPU."""
    ids_BT = ids_BT.to(model.head.weight.device)
    size = max(1, MAX_LOGITS // (len(ids_BT) * model.shape.vocab_size))
    pieces_of_both = (torch.split(part_BT, size, dim=1) for part_BT in (ids_BT[:, :-1], ids_BT[:, 1:]))
    pieces, state = [], model.zero_state(len(ids_BT))
    with holding(model, held):
        for inputs_BT, targets_BT in zip(*pieces_of_both, strict=True):
            logits_BTV, state = model(inputs_BT, state)
            pieces.append(functional.cross_entropy(logits_BTV.transpose(1, 2), targets_BT, reduction="none"))
    return torch.cat(pieces, 1)[:, num_unscored:].flatten().cpu().double()


# What a model writes with one cell held high or low, beside what it writes with none held.
#
# All texts are drawn with the same random numbers, so that they differ by what is held alone.
# Shapes: B rows, V vocabulary, S state's (L, B, H).

TEMPERATURE = 0.8
HELD_LEN = 240  # characters


@torch.no_grad()
def held_texts(model: CharLSTM, vocab: Vocab, prompt: Ids, clamps: Sequence[Clamp]) -> list[str]:
    """A text of HELD_LEN characters after the prompt with no cell held, then one with each of `clamps` from there on.

    The model is a `readable` one.
    """
    device, num_rows = model.head.weight.device, 1 + len(clamps)
    logits_1TV, state = model(torch.from_numpy(prompt.astype(np.int64))[None].to(device))
    state = LSTMState(*(part.repeat(1, num_rows, 1) for part in state))
    logits_BV, ids = logits_1TV[:, -1].repeat(num_rows, 1), []
    numbers = numpy_generator(0, "texts with a cell held").random(HELD_LEN)
    with holding(model, [Held(row, *clamp) for row, clamp in enumerate(clamps, start=1)]):
        for number in numbers:
            ids.append(_drawn(logits_BV, float(number)))
            logits_B1V, state = model(ids[-1][:, None].to(device), state)
            logits_BV = logits_B1V[:, 0]
    return [vocab.decode(row) for row in torch.stack(ids, 1).tolist()]


def _drawn(logits_BV: Tensor, number: float) -> Tensor:
    """The id (B,) at which the summed probabilities of a row pass `number`, from 0 to 1."""
    sums_BV = torch.softmax(logits_BV.cpu().double() / TEMPERATURE, -1).cumsum(-1)
    return (sums_BV <= number).sum(-1).clamp_max(logits_BV.shape[1] - 1)
