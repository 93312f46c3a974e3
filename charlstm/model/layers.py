"""One LSTM layer along a sequence, gate by gate or by `nn.LSTM`; resets where a document begins; dropout masks.

Both have the gates' weights: `state_dict()` of either has the same names and shapes, so either loads the other's.
Shapes: T time steps, B rows, I input features, H hidden units, L layers, N cuts of a batch, F features, S copies.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from charlstm.model.gates import LSTMCell, LSTMState
from charlstm.model.shape import GATES, ModelShape, gate_weight_names


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

    def _in(self, dtype: torch.dtype, x_TBI: Tensor, start: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
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


def _split_into_gates(layer: nn.Module, weights: dict[str, Tensor], prefix: str, _: Mapping[str, Any]) -> None:
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
        return torch.cat([weights.pop(f"{prefix}{gate_name}") for gate_name in gate_weight_names(name)])

    weights[f"{prefix}lstm.weight_ih_l0"] = stack("from_input.weight")
    weights[f"{prefix}lstm.weight_hh_l0"] = stack("from_hidden.weight")
    weights[f"{prefix}lstm.bias_ih_l0"] = stack("from_input.bias")
    weights[f"{prefix}lstm.bias_hh_l0"] = torch.zeros_like(weights[f"{prefix}lstm.bias_ih_l0"])


# Where rows of a batch begin a document: there the state is zero, whatever was read before.
#
# A batch is cut along time wherever one of its rows begins a document, and the pieces are read one after the other. So
# layers know nothing of documents, and gradients stop at a document's beginning by themselves.

Read = Callable[[Tensor, LSTMState], tuple[Tensor, LSTMState]]


class Resets(NamedTuple):
    """The times, ascending, before which rows are reset, and which rows those are (N, B, 1), bool."""

    times: tuple[int, ...]
    is_reset_NB1: Tensor

    @classmethod
    def of(cls, starts_BT: Tensor | None, device: torch.device) -> "Resets | None":
        """The resets at characters that begin a document (B, T), bool on the CPU; None if there are none."""
        if starts_BT is None or not starts_BT.any():
            return None
        times = starts_BT.any(dim=0).nonzero()[:, 0]
        return cls(tuple(times.tolist()), starts_BT[:, times].t()[..., None].to(device, non_blocking=True))


def read_with_resets(
    read: Read, x: Tensor, state: LSTMState, resets: Resets | None, *, time_dim: int
) -> tuple[Tensor, LSTMState]:
    """The outputs of `read` for `x`, all time steps together along `time_dim`, and the state after the last one.

    `state` is (B, H) or (L, B, H), as `read` takes it. Without resets, `read` is called once, as if this were not here.
    """
    if resets is None:
        return read(x, state)
    ends = (*resets.times, x.shape[time_dim])
    sizes = [end - start for start, end in zip((0, *resets.times), ends, strict=True)]
    outputs = []
    for piece, is_reset_B1 in zip(torch.split(x, sizes, time_dim), (None, *resets.is_reset_NB1), strict=True):
        if is_reset_B1 is not None:
            state = LSTMState(state.hidden.masked_fill(is_reset_B1, 0), state.cell.masked_fill(is_reset_B1, 0))
        if piece.shape[time_dim] > 0:  # the first piece is empty where a row begins with a document
            output, state = read(piece, state)
            outputs.append(output)
    return torch.cat(outputs, time_dim), state


# Dropout masks, drawn outside the model: randomness is an argument.
#
# Masks are drawn for the *global* batch from an explicit generator and then cut to a process's rows, so they do not
# depend on the number of processes. Values are 0 or 1/(1-rate) ("inverted dropout", Srivastava et al. 2014). A locked
# mask has T = 1 and serves every step.


class DropoutRates(NamedTuple):
    """The probability of a zero by place: after the embedding, between layers, and before the head (`output`).

    A feed-forward block is a layer: `between_layers` is also between it and the LSTM.
    """

    embedding: float
    between_layers: float
    output: float


class DropoutMasks(NamedTuple):
    """One optional mask (1 or T, B, F) for each place, (S, 1 or T, B, F) for `output`; None leaves values as they are.

    With S > 1 the head sees S differently dropped copies of the same features, and the loss is their mean
    ("multi-sample dropout", Inoue 2019): less noise in the gradient, so that more dropout can be borne.
    """

    embedding: Tensor | None
    between_layers: tuple[Tensor | None, ...]
    output: Tensor | None

    def rows(self, rows: slice) -> "DropoutMasks":
        """The masks of some of the rows."""
        embedding, *between, output = (
            None if mask is None else mask[..., rows, :] for mask in (self.embedding, *self.between_layers, self.output)
        )
        return DropoutMasks(embedding, tuple(between), output)


def draw_masks(
    generator: torch.Generator,
    rates: DropoutRates,
    shape: ModelShape,
    *,
    num_steps: int,
    batch_size: int,
    rows: slice,
    num_output_samples: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> DropoutMasks:
    """Masks for `rows` of a global batch of `batch_size`.

    Locked (variational) dropout, one mask for the whole sequence, is `num_steps=1` (Gal & Ghahramani 2016).
    `generator` is a CPU generator; with the same one, any division into rows gives the same global mask.
    """

    def draw(rate: float, *shape: int) -> Tensor | None:
        if rate == 0:
            return None
        keep = torch.rand(shape, generator=generator)[..., rows, :] >= rate
        return keep.to(device, non_blocking=True).to(dtype) / (1 - rate)

    hidden = (num_steps, batch_size, shape.hidden_size)
    num_between = shape.num_layers - 1 + (shape.feed_forward_size > 0)
    return DropoutMasks(
        embedding=draw(rates.embedding, num_steps, batch_size, shape.input_size),
        between_layers=tuple(draw(rates.between_layers, *hidden) for _ in range(num_between)),
        output=draw(rates.output, num_output_samples, *hidden),
    )
