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

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from charlstm.model.gates import LSTMState
from charlstm.model.loss import LanguageModel, LossSum, logits_of, windows_from
from charlstm.text.encoded import EncodedText, num_chars_of

STATEFUL_CHUNK = 2_000  # ids at a time


def stateful(model: LanguageModel, text: EncodedText) -> LossSum:
    """`stateful`: the text read once from beginning to end."""
    return summed(stateful_nats(model, text), text)


def stateful_nats(model: LanguageModel, text: EncodedText) -> NDArray[np.float64]:
    """The nats (N - 1,) of each id but the first under `stateful`."""
    return char_losses(model, text, model.zero_state(1))[0]


def summed(nats_N: NDArray[np.float64], text: EncodedText) -> LossSum:
    """The loss of a text, from the nats of each of its ids but the first."""
    first = text.first_input
    return LossSum(math.fsum(nats_N[first:]), num_chars_of(text.ids[first + 1 :], text.unit))


@torch.no_grad()
def char_losses(model: LanguageModel, text: EncodedText, state: LSTMState) -> tuple[NDArray[np.float64], LSTMState]:
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


@torch.no_grad()
def row_nats(model: LanguageModel, ids_BT: Tensor, max_logits: int) -> Tensor:
    """Nats (B, T - 1) of each id but the first, in float64 on the CPU; rows are read from a zero state, side by side.

    `max_logits` at a time bounds memory, and has no influence on the result but rounding.
    """
    state = model.zero_state(len(ids_BT))
    ids_BT, size = ids_BT.to(state.hidden.device), max(1, max_logits // (len(ids_BT) * model.shape.vocab_size))
    nats_BT = torch.empty((len(ids_BT), ids_BT.shape[1] - 1), dtype=torch.float64)
    for start in range(0, nats_BT.shape[1], size):
        targets_BT = ids_BT[:, 1:][:, start : start + size]
        logits_BTV, state = model(ids_BT[:, start : start + targets_BT.shape[1]], state)
        nats = functional.cross_entropy(logits_BTV.transpose(1, 2), targets_BT, reduction="none")
        nats_BT[:, start : start + size] = nats
    return nats_BT
