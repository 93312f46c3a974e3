"""The loss as a sum of nats with its count, and its units. A mean is taken once, at the very end.

Sums add up over rows, steps and processes; means of unequal parts do not.
Shapes: B rows, T time steps, V vocabulary, N targets, H hidden units.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from charlstm.model.shape import LOGITS_AT_ONCE
from charlstm.text.encoded import begins_character
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
