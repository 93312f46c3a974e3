"""The loss as a sum of nats with its count; and `windowed_C` and `sliding_C`, by which training validates.

Sums add up over rows, steps and processes; means of unequal parts do not.
Shapes: B rows or windows, T time steps, V vocabulary, N targets, H hidden units.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from charlstm.model.gates import LSTMState
from charlstm.model.layers import Resets, read_with_resets
from charlstm.model.shape import LOGITS_AT_ONCE, ModelShape
from charlstm.text.encoded import EncodedText, Windows, begins_character, check_fit
from charlstm.text.vocabulary import Unit

IGNORE = -100  # a target that is not scored


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


def summed_nats(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Summed negative log-likelihood in nats, a scalar, over all targets but those that are IGNORE.

    Logits may be several copies (S B, T, V) of the targets' rows, as the model gives them in training: their mean.
    """
    num_copies = len(logits_BTV) // len(targets_BT)
    targets_N = targets_BT.repeat(num_copies, 1).flatten()
    nats = functional.cross_entropy(logits_BTV.flatten(0, 1), targets_N, ignore_index=IGNORE, reduction="sum")
    return nats / num_copies


def summed_nats_in_pieces(
    head: Callable[[Tensor], Tensor], features_NH: Tensor, targets_N: Tensor, vocab_size: int
) -> Tensor:
    """The summed nats of targets, of logits that `head` makes of features, never more than LOGITS_AT_ONCE of them.

    None is kept for the backward pass, which calls `head` again (gradient checkpointing, Chen et al. 2016).
    """

    def nats_of(piece_NH: Tensor, piece_N: Tensor) -> Tensor:
        logits_NV = head(piece_NH)
        if logits_NV.dtype in (torch.bfloat16, torch.float16):
            logits_NV = logits_NV.float()  # as Accelerate does with what a model returns
        return functional.cross_entropy(logits_NV, piece_N, ignore_index=IGNORE, reduction="sum")

    size = max(1, LOGITS_AT_ONCE // vocab_size)
    pieces = [slice(start, start + size) for start in range(0, len(targets_N), size)]
    nats = [
        checkpoint(nats_of, features_NH[piece], targets_N[piece], use_reentrant=False, preserve_rng_state=False)
        for piece in pieces
    ]
    return torch.stack(nats).sum()


def exact_loss(logits_BTV: Tensor, targets_BT: Tensor, unit: Unit = "character") -> LossSum:
    """The loss and the number of characters, summed in float64 on the CPU (not every device has it); all targets count.

    Where targets are bytes, the nats of all of them are shared out over the characters that begin among them.
    """
    nats_N = functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none")
    num_chars = targets_BT.numel() if unit == "character" else int(begins_character(targets_BT, unit).sum())
    return LossSum(nats_N.cpu().double().sum().item(), num_chars)


# The loss of a text by windows, as validation after each epoch measures it; `protocols` has all that evaluation does.

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
