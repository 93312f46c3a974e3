"""The evaluation protocols, exact: natural log, fp32, summed in float64.

These score each character of a text exactly once, except the first:

    windowed_C   consecutive windows of C inputs, zero state at each window's start, the last may be shorter
    stateful     one pass, zero state at the first character, carried to the last

This one serves only to compare with the original, which reports it. It scores a character up to C times:

    sliding_C    overlapping windows of C inputs from carried states that have read part of them before

Of a model of bytes, C counts bytes, and a loss is still one per character: the sum of the nats of all its bytes.

If the text has a separator (`EncodedText.separator`), every document begins from a zero state. The first character of a
document is guessed from the document before.

Shapes: B windows, T time steps.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from charlstm.model.gates import LSTMState
from charlstm.model.resets import Resets, read_with_resets
from charlstm.model.shape import ModelShape
from charlstm.text.encoded import EncodedText, Windows, begins_character, num_chars_of
from charlstm.text.encoded_files import check_fit
from charlstm.text.vocabulary import Unit

STATEFUL_CHUNK = 2_000  # ids at a time
# What one forward pass may hold bounds memory; it has no influence on the result but rounding.
MAX_CHARS_PER_FORWARD = 32_768
MAX_LOGITS_PER_FORWARD = 2**24


class LossSum(NamedTuple):
    """Summed negative log-likelihood (nats) of `num_chars` characters."""

    nats: float
    num_chars: int

    def plus(self, other: "LossSum") -> "LossSum":
        """The loss of both texts together."""
        return LossSum(self.nats + other.nats, self.num_chars + other.num_chars)

    @property
    def nats_per_char(self) -> float:
        """Mean negative natural-log likelihood."""
        return self.nats / self.num_chars

    @property
    def bits_per_char(self) -> float:
        """Bits per character: `nats_per_char` in base 2."""
        return self.nats_per_char / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(nats/char): the size of a uniform alphabet that would be as hard to guess; inf above 709 nats/char."""
        try:
            return math.exp(self.nats_per_char)
        except OverflowError:
            return math.inf


class ScorableModel(Protocol):
    """A model that can be scored: `CharLSTM`, or anything else that gives logits (B, T, V) and a state."""

    @property
    def shape(self) -> ModelShape:
        """The model's sizes; `vocab_size` is V."""

    def __call__(self, ids_BT: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Logits of the character after each of `ids_BT`, and the state after the last."""

    def zero_state(self, num_rows: int) -> LSTMState:
        """The state before anything was read, on the model's device."""


@torch.no_grad()
def windowed(
    model: ScorableModel, text: EncodedText, context_len: int, *, rank: int = 0, world_size: int = 1
) -> LossSum:
    """`windowed_C` of the windows that process `rank` of `world_size` holds; the processes' sums make the whole."""
    before = text.first_input
    num_targets = len(text) - 1 - before
    num_windows, num_whole = -(-num_targets // context_len), num_targets // context_len
    first, end = num_windows * rank // world_size, num_windows * (rank + 1) // world_size
    num_chars = min(MAX_CHARS_PER_FORWARD, MAX_LOGITS_PER_FORWARD // model.shape.vocab_size)
    chunks = [*_chunks(range(first, min(end, num_whole)), max(1, num_chars // context_len))]
    if end > max(first, num_whole):
        chunks.append(np.array([num_whole]))  # the last one, which is shorter
    total = LossSum(0.0, 0)
    for numbers in chunks:
        starts_B = before + numbers * context_len
        windows = windows_from(text, starts_B, min(context_len, len(text) - 1 - int(starts_B[0])))
        logits_BTV, _ = logits_of(model, windows, model.zero_state(len(numbers)))
        total = total.plus(_loss_of(logits_BTV, text, windows))
    return total


@torch.no_grad()
def sliding(
    model: ScorableModel, text: EncodedText, context_len: int, batch_size: int, rows: slice
) -> LossSum:
    """`sliding_C`: a window at every character, `batch_size` at a time, of which this process holds `rows`.

    Each window starts from the state in which the window `batch_size` characters before it ended, the first ones from
    zero. With C = 100 and 64 rows, as in the original, that state has already read the window's first 36 characters.
    """
    num_ids = len(text) - text.first_input
    context_len = min(context_len, num_ids - 1)
    total, state = LossSum(0.0, 0), model.zero_state(rows.stop - rows.start)
    for batch in _chunks(range(num_ids - context_len), batch_size):
        if len(numbers := batch[rows]) > 0:
            windows = windows_from(text, text.first_input + numbers, context_len)
            logits_BTV, state = logits_of(model, windows, state.rows(slice(0, len(numbers))))
            total = total.plus(_loss_of(logits_BTV, text, windows))
    return total


def stateful(model: ScorableModel, text: EncodedText) -> LossSum:
    """`stateful`: the text read once from beginning to end."""
    return summed(stateful_nats(model, text), text)


def stateful_nats(model: ScorableModel, text: EncodedText) -> NDArray[np.float64]:
    """The nats (N - 1,) of each id but the first under `stateful`."""
    return char_losses(model, text, model.zero_state(1))[0]


def summed(nats_N: NDArray[np.float64], text: EncodedText) -> LossSum:
    """The loss of a text, from the nats of each of its ids but the first."""
    first = text.first_input
    return LossSum(math.fsum(nats_N[first:]), num_chars_of(text.ids[first + 1 :], text.unit))


@torch.no_grad()
def char_losses(
    model: ScorableModel, text: EncodedText, state: LSTMState
) -> tuple[NDArray[np.float64], LSTMState]:
    """Nats of each id but the first, (N - 1,), and the state after all but the last, which is not read.

    `state` (L, 1, H) is the state before the first.
    """
    nats_N = np.empty(max(0, len(text) - 1))
    for start in range(0, len(nats_N), STATEFUL_CHUNK):
        windows = windows_from(text, np.array([start]), min(STATEFUL_CHUNK, len(nats_N) - start))
        logits_BTV, state = logits_of(model, windows, state)
        targets_T = torch.from_numpy(windows.targets_BT[0]).to(logits_BTV.device)
        nats_T = functional.cross_entropy(logits_BTV[0], targets_T, reduction="none")
        nats_N[start : start + STATEFUL_CHUNK] = nats_T.cpu().double().numpy()
    return nats_N, state


def windows_from(text: EncodedText, starts_B: np.ndarray, num_steps: int) -> Windows:
    """Windows of so many ids, one from each start."""
    return text.windows(starts_B[:, None] + np.arange(num_steps))


def logits_of(model: ScorableModel, windows: Windows, state: LSTMState) -> tuple[Tensor, LSTMState]:
    """Logits (B, T, V) after each id that is read, and the state after the last."""
    for ids_BT in (windows.inputs_BT, windows.targets_BT):
        check_fit(ids_BT, model.shape.vocab_size)
    device, starts_BT = state.hidden.device, windows.starts_BT
    resets = Resets.of(None if starts_BT is None else torch.from_numpy(starts_BT), device)
    return read_with_resets(
        model, torch.from_numpy(windows.inputs_BT).to(device), state, resets, time_dim=1
    )


def exact_loss(logits_BTV: Tensor, targets_BT: Tensor, unit: Unit = "character") -> LossSum:
    """The loss and the number of characters, summed in float64 on the CPU (not every device has it); all targets count.

    Where targets are bytes, the nats of all of them are shared out over the characters that begin among them.
    """
    nats_N = functional.cross_entropy(
        logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none"
    )
    num_chars = (
        targets_BT.numel() if unit == "character" else int(begins_character(targets_BT, unit).sum())
    )
    return LossSum(nats_N.cpu().double().sum().item(), num_chars)


def _loss_of(logits_BTV: Tensor, text: EncodedText, windows: Windows) -> LossSum:
    return exact_loss(
        logits_BTV, torch.from_numpy(windows.targets_BT).to(logits_BTV.device), text.unit
    )


def _chunks(whole: range, size: int) -> Iterator[np.ndarray]:
    for start in range(whole.start, whole.stop, size):
        yield np.arange(start, min(start + size, whole.stop))
