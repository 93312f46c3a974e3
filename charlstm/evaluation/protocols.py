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

import hashlib
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from charlstm.model.gates import LSTMState
from charlstm.model.loss import LanguageModel, LossSum, logits_of, windows_from
from charlstm.text.encoded import EncodedText, num_chars_of
from charlstm.text.vocabulary import Ids, Vocab

STATEFUL_CHUNK = 2_000  # ids at a time
CHARS_AT_ONCE = 1_000_000


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


# Losses that others reported for one validation text, by protocol; they say nothing about any other text.


def text_sha256(ids: Ids, vocab: Vocab) -> str:
    """The SHA-256 of the text that the ids stand for, as UTF-8."""
    digest = hashlib.sha256()
    for start in range(0, len(ids), CHARS_AT_ONCE):
        digest.update(vocab.utf8_of(ids[start : start + CHARS_AT_ONCE]))
    return digest.hexdigest()
