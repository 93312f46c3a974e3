"""Losses by windows, as validation after each epoch measures them. What all protocols mean is told in `protocols`.

Training depends on this module and on no other of evaluation: a change of another protocol trains nothing anew.

Shapes: B windows, T time steps.
"""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from charlstm.model.gates import LSTMState
from charlstm.model.layers import Resets, read_with_resets
from charlstm.model.loss import LossSum, exact_loss
from charlstm.model.shape import ModelShape
from charlstm.text.encoded import EncodedText, Windows, check_fit

# What one forward pass may hold bounds memory; it has no influence on the result but rounding.
MAX_CHARS_PER_FORWARD = 32_768
MAX_LOGITS_PER_FORWARD = 2**24


class LanguageModel(Protocol):
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
    model: LanguageModel, text: EncodedText, context_len: int, *, rank: int = 0, world_size: int = 1
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
def sliding(model: LanguageModel, text: EncodedText, context_len: int, batch_size: int, rows: slice) -> LossSum:
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


def windows_from(text: EncodedText, starts_B: np.ndarray, num_steps: int) -> Windows:
    """Windows of so many ids, one from each start."""
    return text.windows(starts_B[:, None] + np.arange(num_steps))


def logits_of(model: LanguageModel, windows: Windows, state: LSTMState) -> tuple[Tensor, LSTMState]:
    """Logits (B, T, V) after each id that is read, and the state after the last."""
    for ids_BT in (windows.inputs_BT, windows.targets_BT):
        check_fit(ids_BT, model.shape.vocab_size)
    device, starts_BT = state.hidden.device, windows.starts_BT
    resets = Resets.of(None if starts_BT is None else torch.from_numpy(starts_BT), device)
    return read_with_resets(model, torch.from_numpy(windows.inputs_BT).to(device), state, resets, time_dim=1)


def _loss_of(logits_BTV: Tensor, text: EncodedText, windows: Windows) -> LossSum:
    return exact_loss(logits_BTV, torch.from_numpy(windows.targets_BT).to(logits_BTV.device), text.unit)


def _chunks(whole: range, size: int) -> Iterator[np.ndarray]:
    for start in range(whole.start, whole.stop, size):
        yield np.arange(start, min(start + size, whole.stop))
