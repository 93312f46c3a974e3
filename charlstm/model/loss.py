"""The training loss in nats, summed over all targets.

The loss is not a mean, because only sums can be added over rows, steps and processes.

Shapes: B rows, T time steps, V vocabulary, N targets, H hidden units, S copies of the output.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.dropout import DropoutMasks
from charlstm.model.gates import LSTMState

IGNORE = -100  # the value of a target that is not scored

# A training step with more than MAX_LOGITS logits computes only LOGITS_AT_ONCE of them at a time.
# The logits are computed again in the backward pass, so the head takes 20 to 33 % longer.
# In return, the head's memory grows neither with the vocabulary nor with the batch.
MAX_LOGITS = 2**24
LOGITS_AT_ONCE = 2**22


class SummedLoss(nn.Module):
    """A module that computes the model's loss.

    DDP wraps this module, so that one forward call uses all weights.
    """

    def __init__(self, model: CharLSTM) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        ids_BT: Tensor,
        state: LSTMState,
        masks: DropoutMasks | None,
        targets_BT: Tensor,
    ) -> tuple[Tensor, LSTMState]:
        """Return the loss in nats, summed over all targets, and the final state (L, B, H).

        If `masks` has S output masks, the loss is the mean over S copies of the output.
        """
        features_STBH, end = self.model.features(ids_BT, state, masks)
        num_copies = len(features_STBH)
        num_logits = num_copies * targets_BT.numel() * self.model.shape.vocab_size
        if num_logits <= MAX_LOGITS:
            return summed_nats(self.model.logits(features_STBH), targets_BT), end

        targets_N = targets_BT.t().flatten().repeat(num_copies)
        return self._nats_in_pieces(features_STBH.flatten(0, 2), targets_N) / num_copies, end

    def _nats_in_pieces(self, features_NH: Tensor, targets_N: Tensor) -> Tensor:
        """Return the summed loss in nats, computing at most LOGITS_AT_ONCE logits at a time.

        The backward pass recomputes every piece (gradient checkpointing, Chen et al. 2016).
        """

        def nats_of(features: Tensor, targets: Tensor) -> Tensor:
            return _cross_entropy(self.model.head(features), targets)

        size = max(1, LOGITS_AT_ONCE // self.model.shape.vocab_size)
        pieces = zip(torch.split(features_NH, size), torch.split(targets_N, size), strict=True)
        nats = [
            checkpoint(nats_of, *piece, use_reentrant=False, preserve_rng_state=False)
            for piece in pieces
        ]
        return torch.stack(nats).sum()


def summed_nats(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Return the negative log-likelihood in nats, summed over all targets except IGNORE.

    The logits may contain S copies (S B, T, V) of the targets' rows. The result is then the mean
    over the copies.
    """
    num_copies = len(logits_BTV) // len(targets_BT)
    targets_N = targets_BT.repeat(num_copies, 1).flatten()
    return _cross_entropy(logits_BTV.flatten(0, 1), targets_N) / num_copies


def _cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    # bf16 and fp16 are too coarse for a sum, so logits are converted to at least fp32.
    dtype = torch.promote_types(logits_NV.dtype, torch.float32)
    return functional.cross_entropy(
        logits_NV.to(dtype), targets_N, ignore_index=IGNORE, reduction="sum"
    )
