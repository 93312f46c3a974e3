"""The evaluation protocols. Losses are computed in fp32, in nats, and summed in float64.

Two protocols score every character of a text exactly once, except the first character:

    windowed_C   consecutive windows of C inputs (the last may be shorter), each from the zero state
    stateful     one pass from the zero state; the state is carried to the end

The third protocol is only for comparison with the original project, which reports it. It scores a
character up to C times:

    sliding_C    overlapping windows of C inputs, each from a state that has read part of the window

In a byte model, C counts bytes. The loss is still per character: the summed nats of the bytes of
the character.

Shapes: B windows, T time steps, V vocabulary, L layers, H hidden units, N ids or targets.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.text.encoded import EncodedText, num_chars_of
from charlstm.text.vocabulary import Ids

STATEFUL_CHUNK = 2_000  # number of ids in one forward pass
# Limits of one forward pass, which bound its memory. They change the result only by rounding.
MAX_CHARS_PER_FORWARD = 32_768
MAX_LOGITS_PER_FORWARD = 2**24


class LossSum(NamedTuple):
    """Negative log-likelihood in nats, summed over `num_chars` characters."""

    nats: float = 0.0
    num_chars: int = 0

    def plus(self, other: "LossSum") -> "LossSum":
        """Return the sums over both texts."""
        return LossSum(self.nats + other.nats, self.num_chars + other.num_chars)

    @property
    def nats_per_char(self) -> float:
        """Mean negative log-likelihood per character, in nats."""
        return self.nats / self.num_chars

    @property
    def bits_per_char(self) -> float:
        """Mean negative log-likelihood per character, in bits."""
        return self.nats_per_char / math.log(2)

    @property
    def perplexity(self) -> float:
        """Perplexity, which is exp(nats per character), or infinity if this value overflows."""
        try:
            return math.exp(self.nats_per_char)
        except OverflowError:
            return math.inf


@torch.no_grad()
def windowed(
    model: CharLSTM, text: EncodedText, context_len: int, *, rank: int = 0, world_size: int = 1
) -> LossSum:
    """Return the `windowed_C` loss of this process's share of the windows.

    The losses of all processes add up to the loss of the text.
    """
    num_targets = len(text) - 1 - text.first_input
    num_windows = math.ceil(num_targets / context_len)
    first = num_windows * rank // world_size
    end = num_windows * (rank + 1) // world_size

    num_chars = min(MAX_CHARS_PER_FORWARD, MAX_LOGITS_PER_FORWARD // model.shape.vocab_size)
    num_whole = num_targets // context_len
    chunks = [*_chunks(range(first, min(end, num_whole)), max(1, num_chars // context_len))]
    if end > max(first, num_whole):
        # The last window is shorter, so it gets a forward pass of its own.
        chunks.append(np.array([num_whole]))

    total = LossSum()
    for numbers in chunks:
        starts_B = text.first_input + numbers * context_len
        num_steps = min(context_len, len(text) - 1 - int(starts_B[0]))
        loss, _ = _loss_of(model, text, starts_B, num_steps, model.zero_state(len(numbers)))
        total = total.plus(loss)
    return total


@torch.no_grad()
def sliding(
    model: CharLSTM, text: EncodedText, context_len: int, batch_size: int, rows: slice
) -> LossSum:
    """Return the `sliding_C` loss of this process's `rows` of every batch.

    A window begins at every character. Windows are read in batches of `batch_size`. Each window
    starts from the final state of the window that began `batch_size` characters earlier. The first
    windows start from the zero state. With C = 100 and 64 rows, as in the original,
    the final state has already read the first 36 characters of the window.
    """
    num_ids = len(text) - text.first_input
    context_len = min(context_len, num_ids - 1)
    total = LossSum()
    state = model.zero_state(rows.stop - rows.start)
    for batch in _chunks(range(num_ids - context_len), batch_size):
        numbers = batch[rows]
        if len(numbers) > 0:
            starts_B = text.first_input + numbers
            start = state.rows(slice(0, len(numbers)))
            loss, state = _loss_of(model, text, starts_B, context_len, start)
            total = total.plus(loss)
    return total


def stateful(model: CharLSTM, text: EncodedText) -> LossSum:
    """Return the `stateful` loss of a text, which is read once from beginning to end."""
    return summed(stateful_nats(model, text), text)


def stateful_nats(model: CharLSTM, text: EncodedText) -> NDArray[np.float64]:
    """Return the `stateful` loss in nats (N - 1,) of every id except the first."""
    return char_losses(model, text, model.zero_state(1))[0]


def summed(nats_N: NDArray[np.float64], text: EncodedText) -> LossSum:
    """Return the total loss of a text, given the nats (N - 1,) of every id except the first."""
    first = text.first_input
    return LossSum(math.fsum(nats_N[first:]), num_chars_of(text.ids[first + 1 :], text.unit))


@torch.no_grad()
def char_losses(
    model: CharLSTM, text: EncodedText, state: LSTMState
) -> tuple[NDArray[np.float64], LSTMState]:
    """Return the loss in nats (N - 1,) of every id except the first, and the final state.

    `state` (L, 1, H) is the state before the first id. The final state is the state before the last
    id, because the last id is only a target.
    """
    nats_N = np.empty(max(0, len(text) - 1))
    for start in range(0, len(nats_N), STATEFUL_CHUNK):
        piece = nats_N[start : start + STATEFUL_CHUNK]
        nats_T, _, state = _read(model, text, np.array([start]), len(piece), state)
        piece[:] = nats_T.numpy()
    return nats_N, state


def _loss_of(
    model: CharLSTM, text: EncodedText, starts_B: np.ndarray, num_steps: int, state: LSTMState
) -> tuple[LossSum, LSTMState]:
    nats_N, targets_BT, state = _read(model, text, starts_B, num_steps, state)
    return LossSum(nats_N.sum().item(), num_chars_of(targets_BT.ravel(), text.unit)), state


def _read(
    model: CharLSTM, text: EncodedText, starts_B: np.ndarray, num_steps: int, state: LSTMState
) -> tuple[Tensor, Ids, LSTMState]:
    """Run the model on the windows of `num_steps` ids that begin at `starts_B`.

    Return the nats of all targets (N,) in float64 on the CPU, the targets (B, T), and the final
    state.
    """
    positions_BT = starts_B[:, None] + np.arange(num_steps)
    targets_BT = text.ids[positions_BT + 1]
    device = state.hidden.device
    logits_BTV, end = model(torch.from_numpy(text.ids[positions_BT]).to(device).long(), state)
    targets_N = torch.from_numpy(targets_BT).flatten().to(device).long()
    nats_N = functional.cross_entropy(logits_BTV.flatten(0, 1), targets_N, reduction="none")
    # The conversion is done on the CPU, because some devices do not support float64.
    return nats_N.cpu().double(), targets_BT, end


def _chunks(whole: range, size: int) -> Iterator[np.ndarray]:
    for start in range(whole.start, whole.stop, size):
        yield np.arange(start, min(start + size, whole.stop))
