"""A text after a prompt, generated or held out, and what a model makes of it.

Shapes: B passages of one size, T time steps, V vocabulary.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from charlstm.evaluation.protocols import MAX_LOGITS_PER_FORWARD, STATEFUL_CHUNK, LanguageModel
from charlstm.model.loss import IGNORE, LossSum
from charlstm.text.units import Unit, num_chars_of
from charlstm.text.vocabulary import Ids

MAX_ROWS = 64


class Passage(NamedTuple):
    """The ids of a prompt, at least one, and of the text after it."""

    prompt: Ids
    text: Ids


def held_out(val: Ids, like: Sequence[Passage]) -> list[Passage]:
    """As many passages of `val`, evenly spaced, each as long as its counterpart, or as `val` where that is shorter."""
    passages = []
    for index, one in enumerate(like):
        size = min(len(one.prompt) + len(one.text), len(val))
        start = (len(val) - size) * (2 * index + 1) // (2 * len(like))
        cut = start + min(len(one.prompt), size - 1)
        passages.append(Passage(np.asarray(val[start:cut]), np.asarray(val[cut : start + size])))
    return passages


@torch.no_grad()
def text_losses(model: LanguageModel, passages: Sequence[Passage], unit: Unit = "character") -> list[LossSum]:
    """The loss of each text, character by character after its prompt, which is read from a zero state, unscored."""
    losses = [LossSum(0.0, 0)] * len(passages)
    groups = defaultdict(list)
    for index, one in enumerate(passages):
        groups[len(one.prompt), len(one.text)].append(index)
    for (num_before, _), members in groups.items():
        for start in range(0, len(members), MAX_ROWS):
            rows = members[start : start + MAX_ROWS]
            ids_BT = torch.from_numpy(np.stack([np.concatenate(passages[row]) for row in rows]).astype(np.int64))
            for row, nats in zip(rows, _nats(model, ids_BT, num_before).tolist(), strict=True):
                losses[row] = LossSum(nats, num_chars_of(passages[row].text, unit))
    return losses


def _nats(model: LanguageModel, ids_BT: Tensor, num_before: int) -> Tensor:
    """Summed nats (B,), in float64, of the ids from `num_before` on."""
    targets_BT = ids_BT[:, 1:].clone()
    targets_BT[:, : num_before - 1] = IGNORE
    num_rows, num_steps = targets_BT.shape
    size = max(1, min(STATEFUL_CHUNK, MAX_LOGITS_PER_FORWARD // (num_rows * model.shape.vocab_size)))
    state, total_B = model.zero_state(num_rows), torch.zeros(num_rows, dtype=torch.float64)
    for start in range(0, num_steps, size):
        part = slice(start, min(start + size, num_steps))
        logits_BTV, state = model(ids_BT[:, part], state)
        nats_BT = functional.cross_entropy(
            logits_BTV.transpose(1, 2), targets_BT[:, part], ignore_index=IGNORE, reduction="none"
        )
        total_B += nats_BT.double().sum(1)
    return total_B
