"""A model that reads with every gate and cell in sight: what they did is recorded, or a cell is clamped to a value.

Shapes: B rows, T time steps, L layers, H hidden units, N characters, U = L H cells, layer by layer; G gates, K clamped
cells.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlstm.evaluation.protocols import row_nats
from charlstm.interpretation.labels import Floats, Label
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.model.layers import GatesLayer
from charlstm.seeds import numpy_generator
from charlstm.text.vocabulary import Ids, Vocab

# The two halves of a text: what is found on one is confirmed on the other. They are read as rows, side by side.

WARM_UP = 200  # characters that a row reads first: its state is then that of a reader in the middle of a text
ROW_LEN = 1_000  # characters; halves are multiples of it
MIN_HALF, MAX_HALF = 2_000, 50_000  # characters
LOOK_AHEAD = 100_000  # characters after the halves that are kept: some labels depend on how the last line goes on
MIN_CHARS = WARM_UP + 2 * MIN_HALF + 1
MAX_CELL_STATES = 2**26  # of both halves, two bytes each
MAX_MULTIPLICATIONS = 2**38  # of a pass over both halves: a large model reads less, so as to be done in time


class Halves(NamedTuple):
    """The halves follow one another in `ids`, after WARM_UP characters."""

    ids: Ids
    num_chars: int
    """Of each half."""

    def labels(self, labels: list[Label], half: int, num_chars: int | None = None) -> list[Label]:
        """The labels of half 0 or 1, or of its first characters, cut out of those of all ids."""
        start = self._start(half)
        end = start + (num_chars or self.num_chars)
        return [one._replace(values_N=one.values_N[start:end]) for one in labels]

    def rows(self, half: int, num_chars: int, row_len: int, *, with_targets: bool = False) -> Tensor:
        """Rows (B, WARM_UP + T), int64, whose last T are the first characters of a half, in their order.

        With targets, each row has the character after them, too.
        """
        first_B = np.arange(0, num_chars, row_len) + self._start(half) - WARM_UP
        size = WARM_UP + row_len + with_targets
        return torch.from_numpy(self.ids[first_B[:, None] + np.arange(size)].astype(np.int64))

    def part(self, half: int) -> Ids:
        """The ids of a half."""
        return self.ids[self._start(half) :][: self.num_chars]

    def _start(self, half: int) -> int:
        return WARM_UP + half * self.num_chars


def halves_of(ids: Ids, model: CharLSTM) -> Halves | None:
    """Halves of as much text as there is time and memory for; None where the text is too short to find anything."""
    num_cells = model.shape.num_layers * model.shape.hidden_size
    most = min(2 * MAX_HALF, MAX_CELL_STATES // num_cells, MAX_MULTIPLICATIONS // model.shape.num_parameters)
    num_chars = min(len(ids) - WARM_UP - 1, max(most, 2 * MIN_HALF)) // 2 // ROW_LEN * ROW_LEN
    kept = ids[: WARM_UP + 2 * num_chars + 1 + LOOK_AHEAD]  # a label has a number for each of them
    return Halves(kept, num_chars) if num_chars >= MIN_HALF else None


# Hooks in a model: after each step of each layer, a function is told the gates and the state, which it may replace.

GATES = ("input_gate", "forget_gate", "output_gate")
OnStep = Callable[[int, dict[str, Tensor], LSTMState], LSTMState | None]  # of a layer; gates and state are (B, H)


def readable(model: CharLSTM) -> CharLSTM:
    """A copy in fp32 with the gates of `gates.py`, which can have hooks one by one, on the same device."""
    copy = CharLSTM(model.shape, "gates").to(model.head.weight.device)
    copy.load_state_dict(model.state_dict())
    return copy.requires_grad_(False).eval()


@contextmanager
def hooked(model: CharLSTM, on_step: OnStep) -> Iterator[None]:
    """While this lasts, `on_step` is called after each step of each layer of a `readable` model."""
    gates: dict[str, Tensor] = {}  # of the step that is being made

    def keep(name: str, _module: nn.Module, _inputs: object, gate_BH: Tensor) -> None:
        gates[name] = gate_BH

    def report(layer: int, _module: nn.Module, _inputs: object, state: LSTMState) -> LSTMState | None:
        return on_step(layer, gates, state)

    with ExitStack() as hooks:
        for index, layer in enumerate(model.layers):
            cell = cast(GatesLayer, layer).cell
            for name in GATES:
                hooks.callback(cell.get_submodule(name).register_forward_hook(partial(keep, name)).remove)
            hooks.callback(cell.register_forward_hook(partial(report, index)).remove)
        yield


# What every cell did while the model read: its states, and how its gates stood.

PIECE = 50  # characters of a row at a time; bounds memory, and has no influence on what is computed
LOW, HIGH = 0.1, 0.9  # a gate beyond them is saturated (Karpathy, Johnson & Li 2015)


class Recording(NamedTuple):
    """Cell states and gates over N characters."""

    cells_UN: NDArray[np.float16]
    """Cell states c_t, a row a cell."""
    log_forget_U: Floats
    """Mean of ln f_t, f_t being the forget gate, over the steps at which it is not below LOW, which is a reset."""
    low_GU: Floats
    """Share of the time that a gate is below LOW, gates in the order of `GATES`."""
    high_GU: Floats
    """Share of the time that it is above HIGH."""


@torch.no_grad()
def record(model: CharLSTM, ids_BT: Tensor) -> Recording:
    """Read rows whose first WARM_UP characters are not recorded. The model is a `readable` one."""
    num_layers, hidden_size, num_rows = model.shape.num_layers, model.shape.hidden_size, len(ids_BT)
    zero = model.zero_state(num_rows)
    cells_TLBH = torch.empty((ids_BT.shape[1] - WARM_UP, *zero.cell.shape), dtype=torch.float16)
    low_GLH, high_GLH = zero.cell.new_zeros((2, len(GATES), num_layers, hidden_size))
    log_forget_LH = zero.cell.new_zeros((num_layers, hidden_size))
    steps = [-WARM_UP] * num_layers

    def on_step(layer: int, gates: dict[str, Tensor], state: LSTMState) -> None:
        if steps[layer] >= 0:
            cells_TLBH[steps[layer], layer] = state.cell
            for index, name in enumerate(GATES):
                low_GLH[index, layer] += (gates[name] < LOW).sum(0)
                high_GLH[index, layer] += (gates[name] > HIGH).sum(0)
            forget_BH = gates["forget_gate"]
            log_forget_LH[layer] += torch.where(forget_BH < LOW, 1.0, forget_BH).log().sum(0)
        steps[layer] += 1

    states = [LSTMState(*parts) for parts in zip(*zero, strict=True)]
    with hooked(model, on_step):
        for piece_BT in torch.split(ids_BT.to(zero.hidden.device), PIECE, dim=1):
            x_TBF = model.embedding(piece_BT.t())
            for index, layer in enumerate(model.layers):  # what is above them is not needed
                x_TBF, states[index] = layer(x_TBF, states[index])
    num_recorded = num_rows * len(cells_TLBH)
    log_forget_U, low_GU, high_GU = (
        sums.flatten(-2).cpu().double().numpy() / num_recorded for sums in (log_forget_LH, low_GLH, high_GLH)
    )
    share_kept_U = np.maximum(1 - low_GU[GATES.index("forget_gate")], 1 / num_recorded)
    cells_UN = cells_TLBH.permute(1, 3, 2, 0).reshape(-1, num_recorded).numpy()
    return Recording(cells_UN, log_forget_U / share_kept_U, low_GU, high_GU)


# What is lost without a cell: the nats that it takes more to predict with the cell clamped.

MAX_ROWS = 512  # read side by side
MAX_LOGITS = 2**23  # at a time; bounds memory, and has no influence on what is computed


class Clamp(NamedTuple):
    """A cell, and the value that it is to have after every step."""

    layer: int
    unit: int
    value: float


@contextmanager
def clamped(model: CharLSTM, clamps: Sequence[Clamp | None]) -> Iterator[None]:
    """While this lasts, each row of a batch has its cell clamped; the model is a `readable` one."""
    by_layer: dict[int, tuple[tuple[Tensor, Tensor], Tensor]] = {}
    for layer in {one.layer for one in clamps if one}:
        rows, held = zip(*((row, one) for row, one in enumerate(clamps) if one and one.layer == layer), strict=True)
        columns = (rows, [one.unit for one in held], [one.value for one in held])
        rows_K, units_K, values_K = (torch.tensor(column, device=model.head.weight.device) for column in columns)
        by_layer[layer] = ((rows_K, units_K), values_K)

    def hold(layer: int, gates: dict[str, Tensor], state: LSTMState) -> LSTMState | None:
        if layer not in by_layer:
            return None
        at, values_K = by_layer[layer]
        hidden_K = gates["output_gate"][at] * torch.tanh(values_K)
        return LSTMState(state.hidden.index_put(at, hidden_K), state.cell.index_put(at, values_K))

    with hooked(model, hold):
        yield


@torch.no_grad()
def nats_lost(model: CharLSTM, ids_BT: Tensor, clamps: Sequence[Clamp], num_unscored: int) -> Floats:
    """How much worse (C, N) each next character is predicted with each of C clamps, from the first character on.

    Args:
        model: a `readable` one.
        ids_BT: rows (B, num_unscored + T + 1), int64.
    """
    plain_N = _nats(model, ids_BT, [None] * len(ids_BT), num_unscored)
    per_pass = max(1, MAX_ROWS // len(ids_BT))
    found = []
    for start in range(0, len(clamps), per_pass):
        some = clamps[start : start + per_pass]
        of_rows = [clamp for clamp in some for _ in ids_BT]
        found.append(_nats(model, ids_BT.repeat(len(some), 1), of_rows, num_unscored).reshape(len(some), -1))
    return (torch.cat(found) - plain_N).numpy()


def _nats(model: CharLSTM, ids_BT: Tensor, clamps: Sequence[Clamp | None], num_unscored: int) -> Tensor:
    """Nats (N,) of each scored character, row after row."""
    with clamped(model, clamps):
        return row_nats(model, ids_BT, MAX_LOGITS)[:, num_unscored:].flatten()


# What the model writes with one cell clamped high or low, beside what it writes with none.

TEMPERATURE = 0.8
CLAMPED_LEN = 240  # characters


@torch.no_grad()
def clamped_texts(model: CharLSTM, vocab: Vocab, prompt: Ids, clamps: Sequence[Clamp | None]) -> list[str]:
    """A text of CLAMPED_LEN characters after the prompt for each clamp, which begins with the text.

    All are drawn with the same random numbers, so that they differ by what is clamped alone. The model is a `readable`
    one.
    """
    device, num_rows = model.head.weight.device, len(clamps)
    logits_1TV, state = model(torch.from_numpy(prompt.astype(np.int64))[None].to(device))
    state = LSTMState(*(part.repeat(1, num_rows, 1) for part in state))
    logits_BV, ids = logits_1TV[:, -1].repeat(num_rows, 1), []
    with clamped(model, clamps):
        for number in numpy_generator(0, "texts with a cell held").random(CLAMPED_LEN):
            # The id at which the summed probabilities pass the number, from 0 to 1.
            sums_BV = torch.softmax(logits_BV.cpu().double() / TEMPERATURE, -1).cumsum(-1)
            ids.append((sums_BV <= float(number)).sum(-1).clamp_max(len(vocab) - 1))
            logits_B1V, state = model(ids[-1][:, None].to(device), state)
            logits_BV = logits_B1V[:, 0]
    return [vocab.decode(row) for row in torch.stack(ids, 1).tolist()]
