"""The loss as a sum of nats with its count, and its units. A mean is taken once, at the very end.

Sums add up over rows, steps and processes; means of unequal parts do not.
"""

import math
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from charlstm.text.units import Unit, begins_character

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
        """The same in base 2."""
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


def exact_loss(logits_BTV: Tensor, targets_BT: Tensor, unit: Unit = "character") -> LossSum:
    """The same with its count, summed in float64 on the CPU (not every device has float64); all targets count.

    Where targets are bytes, the nats of all of them are shared out over the characters that begin among them.
    """
    nats_N = functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none")
    num_chars = targets_BT.numel() if unit == "character" else int(begins_character(targets_BT, unit).sum())
    return LossSum(nats_N.cpu().double().sum().item(), num_chars)
