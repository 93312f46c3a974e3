"""What every cell of a model did while it read a text: its cell states, and how its gates stood.

The text is cut into rows that are read side by side, each from WARM_UP characters before it on.
Shapes: B rows, T time steps, H hidden units, L layers, N recorded characters, U = L H cells, layer by layer; G gates.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from charlstm.interpretation.clamping import OnGate, run_layers, watched
from charlstm.interpretation.labels import Label
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.text.vocabulary import Ids

# The two halves of a text: what is found on one is confirmed on the other. Shapes: B rows, T time steps.

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
    """As much of the text as there is time and memory for; None where the text is too short to find anything."""
    num_cells = model.shape.num_layers * model.shape.hidden_size
    most = min(2 * MAX_HALF, MAX_CELL_STATES // num_cells, MAX_MULTIPLICATIONS // model.num_parameters())
    num_chars = min(len(ids) - WARM_UP - 1, max(most, 2 * MIN_HALF)) // 2 // ROW_LEN * ROW_LEN
    kept = ids[: WARM_UP + 2 * num_chars + 1 + LOOK_AHEAD]  # a label has a number for each of them
    return Halves(kept, num_chars) if num_chars >= MIN_HALF else None


# The recording.

LOW, HIGH = 0.1, 0.9  # a gate beyond them is saturated (Karpathy, Johnson & Li 2015)
RECORDED_GATES = ("input_gate", "forget_gate", "output_gate")


class Recording(NamedTuple):
    """Of N characters."""

    cells_UN: NDArray[np.float16]
    """Cell states c_t, a row a cell."""
    log_forget_U: NDArray[np.float64]
    """Mean of ln f_t, f_t being the forget gate, over the steps at which it is not below LOW, which is a reset."""
    low_GU: NDArray[np.float64]
    """Share of the time that a gate is below LOW, gates in the order of `RECORDED_GATES`."""
    high_GU: NDArray[np.float64]
    """Share of the time that it is above HIGH."""


@torch.no_grad()
def record(model: CharLSTM, ids_BT: Tensor) -> Recording:
    """Read rows whose first WARM_UP characters are not recorded. The model is a `readable` one."""
    recorder = _Recorder(model, *ids_BT.shape)
    on_gates = {name: recorder.on_gate(index) for index, name in enumerate(RECORDED_GATES)}
    with watched(model, on_gates, recorder.on_cell):
        run_layers(model, ids_BT)
    return recorder.recording()


@torch.no_grad()
def record_cells(model: CharLSTM, ids_BT: Tensor) -> NDArray[np.float16]:
    """Only the cell states (U, N), which is quicker."""
    recorder = _Recorder(model, *ids_BT.shape)
    with watched(model, {}, recorder.on_cell):
        run_layers(model, ids_BT)
    return recorder.cells()


class _Recorder:
    """Fills tables while the model reads."""

    def __init__(self, model: CharLSTM, num_rows: int, num_steps: int) -> None:
        shape, device = model.shape, model.head.weight.device
        self._num_recorded = num_rows * (num_steps - WARM_UP)
        self._steps = [0] * shape.num_layers  # that each layer has made
        size = (num_steps - WARM_UP, shape.num_layers, num_rows, shape.hidden_size)
        self._cells_TLBH = torch.empty(size, dtype=torch.float16)
        self._log_forget_LH = torch.zeros((shape.num_layers, shape.hidden_size), device=device)
        self._low_GLH = torch.stack([self._log_forget_LH] * len(RECORDED_GATES))
        self._high_GLH = self._low_GLH.clone()

    def on_gate(self, gate: int) -> OnGate:
        is_forget = RECORDED_GATES[gate] == "forget_gate"

        def count(layer: int, gate_BH: Tensor) -> None:
            if self._steps[layer] >= WARM_UP:
                self._low_GLH[gate, layer] += (gate_BH < LOW).sum(0)
                self._high_GLH[gate, layer] += (gate_BH > HIGH).sum(0)
                if is_forget:
                    self._log_forget_LH[layer] += torch.where(gate_BH < LOW, 1.0, gate_BH).log().sum(0)

        return count

    def on_cell(self, layer: int, state: LSTMState) -> None:
        step = self._steps[layer] - WARM_UP
        if step >= 0:
            self._cells_TLBH[step, layer] = state.cell
        self._steps[layer] += 1

    def cells(self) -> NDArray[np.float16]:
        return self._cells_TLBH.permute(1, 3, 2, 0).reshape(-1, self._num_recorded).numpy()

    def recording(self) -> Recording:
        def mean(sums: Tensor) -> NDArray[np.float64]:
            return sums.flatten(-2).cpu().double().numpy() / self._num_recorded

        low_GU = mean(self._low_GLH)
        share_kept_U = np.maximum(1 - low_GU[RECORDED_GATES.index("forget_gate")], 1 / self._num_recorded)
        log_forget_U = mean(self._log_forget_LH) / share_kept_U
        return Recording(self.cells(), log_forget_U, low_GU, mean(self._high_GLH))
