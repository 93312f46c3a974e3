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

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from charlstm.evaluation.windows import LanguageModel, logits_of, windows_from
from charlstm.model.gates import LSTMState
from charlstm.model.loss import LossSum
from charlstm.text.encoded import EncodedText, num_chars_of

STATEFUL_CHUNK = 2_000  # ids at a time


def stateful(model: LanguageModel, text: EncodedText) -> LossSum:
    """`stateful`: the text read once from beginning to end."""
    first = text.first_input
    nats = (nats for nats_T, _ in _losses_by_chunk(model, text, model.zero_state(1)) for nats in nats_T.tolist())
    # fsum is exact, so it does not matter to it that the numbers come in chunks.
    return LossSum(math.fsum(islice(nats, first, None)), num_chars_of(text.ids[first + 1 :], text.unit))


def char_losses(model: LanguageModel, text: EncodedText, state: LSTMState) -> tuple[NDArray[np.float64], LSTMState]:
    """Nats of each id but the first, (N - 1,), and the state after all but the last, which is not read.

    `state` (L, 1, H) is the state before the first. The exact sum (`math.fsum`) of all nats is `stateful`.
    """
    parts = [np.zeros(0)]
    for nats_T, after in _losses_by_chunk(model, text, state):
        parts.append(nats_T)
        state = after
    return np.concatenate(parts), state


def _losses_by_chunk(
    model: LanguageModel, text: EncodedText, state: LSTMState
) -> Iterator[tuple[NDArray[np.float64], LSTMState]]:
    """`STATEFUL_CHUNK` ids at a time, so that memory does not grow with the text."""
    for start in range(0, len(text) - 1, STATEFUL_CHUNK):
        with torch.no_grad():  # not around `yield`: it would hold for whoever asks for the next
            windows = windows_from(text, np.array([start]), min(STATEFUL_CHUNK, len(text) - 1 - start))
            logits_BTV, state = logits_of(model, windows, state)
            targets_T = torch.from_numpy(windows.targets_BT[0]).to(logits_BTV.device)
            nats_T = functional.cross_entropy(logits_BTV[0], targets_T, reduction="none")
        yield nats_T.cpu().double().numpy(), state
