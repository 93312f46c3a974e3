"""The evaluation protocols, exact, so that losses can be compared: natural log, fp32, summed in float64.

These score each character of a text exactly once, except the first:

    windowed_C   consecutive windows of C inputs, zero state at each window's start, the last may be shorter
    stateful     one pass, zero state at the first character, carried to the last

This one serves only to compare with the original, which reports it. It scores a character up to C times:

    sliding_C    overlapping windows of C inputs from carried states that have read part of them before

Of a model of bytes, C counts bytes, and a loss is still one per character: the sum of the nats of all its bytes.

With a `separator`, the ids with which each document begins, all of them are in a zero state before each document too.
Its first character is guessed from the document before, and every character still counts as often.

Shapes: B windows, T time steps.
"""

import math
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from charlstm.model.char_lstm import ModelShape
from charlstm.model.gates import LSTMState
from charlstm.model.layers import Resets, read_with_resets
from charlstm.model.loss import LossSum, exact_loss
from charlstm.text.encoded import check_fit, document_starts, end_of_first, num_chars_of
from charlstm.text.vocabulary import Ids, Unit

# What one forward pass may hold bounds memory; it has no influence on the result but rounding.
MAX_CHARS_PER_FORWARD = 32_768
MAX_LOGITS_PER_FORWARD = 2**24
STATEFUL_CHUNK = 2_000  # characters


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
        total = total.plus(_score(model, _rows(ids, before + windows * context_len, context_len, separator), unit))
    if end > max(first, num_whole):
        start = before + num_whole * context_len
        total = total.plus(_score(model, _rows(ids, np.array([start]), len(ids) - 1 - start, separator), unit))
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
            passage = _rows(ids, windows, context_len, separator)
            logits_BTV, state = _logits(model, passage, state.rows(slice(0, len(windows))))
            total = total.plus(exact_loss(logits_BTV, passage.targets_BT.to(logits_BTV.device), unit))
    return total


def stateful(model: LanguageModel, ids: Ids, *, unit: Unit = "character", separator: Ids | None = None) -> LossSum:
    """`stateful`: the text read once from beginning to end."""
    parts = _losses_by_chunk(model, ids, model.zero_state(1), separator)
    first = end_of_first(ids, unit)
    nats = (nats for nats_T, _ in parts for nats in nats_T.tolist())
    # fsum is exact, so it does not matter to it that the numbers come in chunks.
    return LossSum(math.fsum(islice(nats, first, None)), num_chars_of(ids[first + 1 :], unit))


def char_losses(
    model: LanguageModel, ids: Ids, state: LSTMState, *, separator: Ids | None = None
) -> tuple[NDArray[np.float64], LSTMState]:
    """Nats of each id but the first, (N - 1,), and the state after all but the last, which is not read.

    `state` (L, 1, H) is the state before the first. The exact sum (`math.fsum`) of all nats is `stateful`.
    """
    parts = [np.zeros(0)]
    for nats_T, after in _losses_by_chunk(model, ids, state, separator):
        parts.append(nats_T)
        state = after
    return np.concatenate(parts), state


def _losses_by_chunk(
    model: LanguageModel, ids: Ids, state: LSTMState, separator: Ids | None
) -> Iterator[tuple[NDArray[np.float64], LSTMState]]:
    """The same, STATEFUL_CHUNK characters at a time: memory does not grow with the text."""
    for start in range(0, len(ids) - 1, STATEFUL_CHUNK):
        with torch.no_grad():  # not around `yield`: it would hold for whoever asks for the next
            chunk = _rows(ids, np.array([start]), min(STATEFUL_CHUNK, len(ids) - 1 - start), separator)
            logits_BTV, state = _logits(model, chunk, state)
            targets_T = chunk.targets_BT[0].to(logits_BTV.device)
            nats_T = functional.cross_entropy(logits_BTV[0], targets_T, reduction="none")
        yield nats_T.cpu().double().numpy(), state


class _Rows(NamedTuple):
    """Characters to read, the next ones, and which of those to read begin a document; all (B, T), on the CPU."""

    inputs_BT: Tensor
    targets_BT: Tensor
    starts_BT: Tensor | None


def _score(model: LanguageModel, rows: _Rows, unit: Unit) -> LossSum:
    logits_BTV, _ = _logits(model, rows, model.zero_state(len(rows.inputs_BT)))
    return exact_loss(logits_BTV, rows.targets_BT.to(logits_BTV.device), unit)


def _logits(model: LanguageModel, rows: _Rows, state: LSTMState) -> tuple[Tensor, LSTMState]:
    for ids_BT in (rows.inputs_BT, rows.targets_BT):
        check_fit(ids_BT.numpy(), model.shape.vocab_size)
    device = state.hidden.device
    resets = Resets.of(rows.starts_BT, device)
    return read_with_resets(model, rows.inputs_BT.to(device), state, resets, time_dim=1)


def _chunks(whole: range, size: int) -> Iterator[np.ndarray]:
    for start in range(whole.start, whole.stop, size):
        yield np.arange(start, min(start + size, whole.stop))


def _rows(ids: Ids, starts: np.ndarray, num_steps: int, separator: Ids | None) -> _Rows:
    positions = starts[:, None] + np.arange(num_steps)
    inputs, targets = (torch.from_numpy(ids[at].astype(np.int64)) for at in (positions, positions + 1))
    begins = None if separator is None else torch.from_numpy(document_starts(ids, positions, separator))
    return _Rows(inputs, targets, begins)
