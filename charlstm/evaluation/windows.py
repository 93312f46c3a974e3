"""Losses by windows, as validation after each epoch measures them. What all protocols mean is told in `protocols`.

Training depends on this module and on no other of evaluation: a change of another protocol trains nothing anew.

Shapes: B windows, T time steps.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from charlstm.model.char_lstm import ModelShape
from charlstm.model.gates import LSTMState
from charlstm.model.layers import Resets, read_with_resets
from charlstm.model.loss import LossSum, exact_loss
from charlstm.text.documents import document_starts
from charlstm.text.units import Unit, end_of_first
from charlstm.text.vocabulary import Ids, check_fit

# What one forward pass may hold bounds memory; it has no influence on the result but rounding.
MAX_CHARS_PER_FORWARD = 32_768
MAX_LOGITS_PER_FORWARD = 2**24


class LanguageModel(Protocol):
    """What is scored: `CharLSTM`, or anything else that gives logits (B, T, V) and a state."""

    @property
    def shape(self) -> ModelShape:
        """Of which `vocab_size` is V."""

    def __call__(self, ids_BT: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Logits of the character after each of `ids_BT`, and the state after the last."""

    def zero_state(self, num_rows: int) -> LSTMState:
        """The state before anything was read, on the model's device."""


@torch.no_grad()
def windowed(
    model: LanguageModel,
    ids: Ids,
    context_len: int,
    *,
    unit: Unit = "character",
    rank: int = 0,
    world_size: int = 1,
    separator: Ids | None = None,
) -> LossSum:
    """`windowed_C` of the windows that process `rank` of `world_size` holds; the processes' sums make the whole."""
    before = end_of_first(ids, unit)
    num_targets = len(ids) - 1 - before
    num_windows, num_whole = -(-num_targets // context_len), num_targets // context_len
    first, end = num_windows * rank // world_size, num_windows * (rank + 1) // world_size
    total = LossSum(0.0, 0)
    num_chars = min(MAX_CHARS_PER_FORWARD, MAX_LOGITS_PER_FORWARD // model.shape.vocab_size)
    for windows in _chunks(range(first, min(end, num_whole)), max(1, num_chars // context_len)):
        total = total.plus(
            _score(model, passages_at(ids, before + windows * context_len, context_len, separator), unit)
        )
    if end > max(first, num_whole):
        start = before + num_whole * context_len
        total = total.plus(_score(model, passages_at(ids, np.array([start]), len(ids) - 1 - start, separator), unit))
    return total


@torch.no_grad()
def sliding(
    model: LanguageModel,
    ids: Ids,
    context_len: int,
    batch_size: int,
    rows: slice,
    *,
    unit: Unit = "character",
    separator: Ids | None = None,
) -> LossSum:
    """`sliding_C`: a window at every character, `batch_size` at a time, of which this process holds `rows`.

    Each window starts from the state in which the window `batch_size` characters before it ended, the first ones from
    zero. With C = 100 and 64 rows, as in the original, that state has already read the window's first 36 characters.
    """
    ids = ids[end_of_first(ids, unit) :]
    context_len = min(context_len, len(ids) - 1)
    total, state = LossSum(0.0, 0), model.zero_state(rows.stop - rows.start)
    for batch in _chunks(range(len(ids) - context_len), batch_size):
        if len(windows := batch[rows]) > 0:
            passage = passages_at(ids, windows, context_len, separator)
            logits_BTV, state = logits_of(model, passage, state.rows(slice(0, len(windows))))
            total = total.plus(exact_loss(logits_BTV, passage.targets_BT.to(logits_BTV.device), unit))
    return total


class Passages(NamedTuple):
    """Characters to read, the next ones, and which of those to read begin a document; all (B, T), on the CPU."""

    inputs_BT: Tensor
    targets_BT: Tensor
    starts_BT: Tensor | None


def _score(model: LanguageModel, passages: Passages, unit: Unit) -> LossSum:
    logits_BTV, _ = logits_of(model, passages, model.zero_state(len(passages.inputs_BT)))
    return exact_loss(logits_BTV, passages.targets_BT.to(logits_BTV.device), unit)


def logits_of(model: LanguageModel, passages: Passages, state: LSTMState) -> tuple[Tensor, LSTMState]:
    """Logits (B, T, V) after each character of the passages, and the state after their last."""
    for ids_BT in (passages.inputs_BT, passages.targets_BT):
        check_fit(ids_BT.numpy(), model.shape.vocab_size)
    device = state.hidden.device
    resets = Resets.of(passages.starts_BT, device)
    return read_with_resets(model, passages.inputs_BT.to(device), state, resets, time_dim=1)


def _chunks(whole: range, size: int) -> Iterator[np.ndarray]:
    for start in range(whole.start, whole.stop, size):
        yield np.arange(start, min(start + size, whole.stop))


def passages_at(ids: Ids, starts: np.ndarray, num_steps: int, separator: Ids | None) -> Passages:
    """Passages of so many characters, one from each start (B,)."""
    positions = starts[:, None] + np.arange(num_steps)
    inputs, targets = (torch.from_numpy(ids[at].astype(np.int64)) for at in (positions, positions + 1))
    begins = None if separator is None else torch.from_numpy(document_starts(ids, positions, separator))
    return Passages(inputs, targets, begins)
