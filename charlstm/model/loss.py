"""The loss that training minimizes: a sum of nats. Sums add up over rows, steps and processes; means do not.

Shapes: B rows, T time steps, V vocabulary, N targets, H hidden units, S copies of the output.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.dropout import DropoutMasks
from charlstm.model.gates import LSTMState
from charlstm.model.resets import Resets
from charlstm.model.shape import LOGITS_AT_ONCE, MAX_LOGITS

IGNORE = -100  # a target that is not scored


class SummedLoss(nn.Module):
    """The model with its loss. DDP wraps this module, because all weights must be used within one forward call."""

    def __init__(self, model: CharLSTM) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        ids_BT: Tensor,
        state: LSTMState,
        masks: DropoutMasks | None,
        resets: Resets | None,
        targets_BT: Tensor,
    ) -> tuple[Tensor, LSTMState]:
        """Return the summed nats of the targets, a scalar, and the state (L, B, H) after the last character.

        With masks for S copies of the output, the loss is their mean.
        """
        features_STBH, end = self.model.features(ids_BT, state, masks, resets)
        num_copies = len(features_STBH)
        if num_copies * targets_BT.numel() * self.model.shape.vocab_size <= MAX_LOGITS:
            return summed_nats(self.model.logits(features_STBH), targets_BT), end
        targets_N = targets_BT.t().flatten().repeat(num_copies)
        return self._nats_in_pieces(features_STBH.flatten(0, 2), targets_N) / num_copies, end

    def _nats_in_pieces(self, features_NH: Tensor, targets_N: Tensor) -> Tensor:
        """Return the summed nats, from at most LOGITS_AT_ONCE logits at a time.

        The backward pass computes each piece again (gradient checkpointing, Chen et al. 2016).
        """
        size = max(1, LOGITS_AT_ONCE // self.model.shape.vocab_size)
        pieces = [slice(start, start + size) for start in range(0, len(targets_N), size)]
        nats = [
            checkpoint(
                self._nats_of,
                features_NH[piece],
                targets_N[piece],
                use_reentrant=False,
                preserve_rng_state=False,
            )
            for piece in pieces
        ]
        return torch.stack(nats).sum()

    def _nats_of(self, features_MH: Tensor, targets_M: Tensor) -> Tensor:
        return _cross_entropy(self.model.head(features_MH), targets_M)


def summed_nats(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Return the summed negative log-likelihood in nats, a scalar, over all targets but those that are IGNORE.

    Logits may be S copies (S B, T, V) of the targets' rows. The result is then the mean of the copies.
    """
    num_copies = len(logits_BTV) // len(targets_BT)
    return (
        _cross_entropy(logits_BTV.flatten(0, 1), targets_BT.repeat(num_copies, 1).flatten())
        / num_copies
    )


def _cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    if logits_NV.dtype in (torch.bfloat16, torch.float16):
        logits_NV = logits_NV.float()
    return functional.cross_entropy(logits_NV, targets_N, ignore_index=IGNORE, reduction="sum")
