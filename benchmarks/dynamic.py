"""Two ways to a lower loss that no command has: several models as one, and weights that follow the text.

An ensemble is the mean of the probabilities of its models. It has the interface by which models are evaluated.

Shapes: M models, B rows, T time steps, V vocabulary, L layers, H hidden units.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.model.layers import Resets, read_with_resets
from charlstm.model.loss import LossSum, exact_loss, summed_nats
from charlstm.text.encoded import document_starts
from charlstm.text.vocabulary import Ids


class Ensemble(nn.Module):
    """Models of one shape, e.g. of one recipe trained with several seeds."""

    def __init__(self, models: Sequence[CharLSTM]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.shape = models[0].shape

    def forward(self, ids_BT: Tensor, state: LSTMState | None = None) -> tuple[Tensor, LSTMState]:
        """Logits (B, T, V) of the mean probabilities, and the states (M L, B, H) of all models on top of each other."""
        state = state or self.zero_state(len(ids_BT))
        states = zip(*(part.chunk(len(self.models)) for part in state), strict=True)
        results = [model(ids_BT, LSTMState(*one)) for model, one in zip(self.models, states, strict=True)]
        logits_MBTV = torch.stack([logits_BTV for logits_BTV, _ in results])
        ends = zip(*(end for _, end in results), strict=True)
        return logits_MBTV.log_softmax(-1).logsumexp(0), LSTMState(*(torch.cat(parts) for parts in ends))

    def zero_state(self, num_rows: int) -> LSTMState:
        """The states (M L, B, H) before anything was read."""
        states = [cast(CharLSTM, model).zero_state(num_rows) for model in self.models]
        return LSTMState(*(torch.cat(parts) for parts in zip(*states, strict=True)))


# Dynamic evaluation: the weights follow the text while it is read (Krause et al. 2018).
#
# The text is scored in pieces, left to right, with the state carried. Only after a piece is scored do the weights take
# a step down its loss. From there on the model expects what is typical of this text: a name, a speaker, a phrase. Each
# step also decays the weights towards those that training found. Never compare such a loss with a static protocol's,
# whose model does not learn from the text that it is tested on.
# Shapes: B rows, T time steps, V vocabulary; a text is one row.
EPSILON = 1e-5  # added to what divides a gradient, so that one of zero moves nothing


class DynamicRule(NamedTuple):
    """How the weights adapt: the RMS rule with decay of Krause et al. 2018.

    A weight moves by `learning_rate` times its gradient, divided by the root mean square (RMS) of its gradients in
    training. It decays towards its trained value at a rate of `decay` times its RMS over the mean RMS of all weights:
    the weights that matter most to the loss are pulled back most. The values are a first choice that helped; none was
    searched for.
    """

    piece_len: int = 20  # characters that are scored before each step
    learning_rate: float = 1e-4
    decay: float = 1e-3
    num_training_pieces: int = 1500  # from which the mean squares are taken


def dynamic(
    model: CharLSTM | Ensemble, ids: Ids, train_ids: Ids, rule: DynamicRule, *, separator: Ids | None = None
) -> LossSum:
    """The loss of one pass over `ids`, from a zero state, and again from one before each `separator`.

    Weights that require gradients adapt; there must be one (`load_model` gives none). All weights are as before when
    it returns. Mean squares come from the beginning of `train_ids`.
    """
    reader = _Reader(model, rule.piece_len, separator)
    start = [weight.detach().clone() for weight in reader.weights]
    total = LossSum(0.0, 0)
    try:
        roots = _root_mean_squares(reader, train_ids, rule.num_training_pieces)
        mean = torch.cat([root.flatten() for root in roots]).mean()
        steps = [rule.learning_rate / (root + EPSILON) for root in roots]
        decays = [(rule.decay * root / mean).clamp(max=1.0) for root in roots]
        for loss in reader.read(ids):
            total = total.plus(loss)
            _adapt(reader.weights, start, steps, decays)
    finally:
        _reset(reader.weights, start)
    return total


class _Reader:
    """Reads a text piece by piece and leaves each piece's gradient in the weights' `grad`."""

    def __init__(self, model: CharLSTM | Ensemble, piece_len: int, separator: Ids | None) -> None:
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._model, self._piece_len, self._separator = model, piece_len, separator
        assert self.weights, "no weight requires gradients"

    def read(self, ids: Ids) -> Iterator[LossSum]:
        """The loss of each piece; the last one may be shorter."""
        state = self._model.zero_state(1)
        text_BT = torch.from_numpy(ids.astype(np.int64))[None].to(state.hidden.device)
        for start in range(0, len(ids) - 1, self._piece_len):
            targets_BT = text_BT[:, start + 1 : start + 1 + self._piece_len]
            self._model.zero_grad()
            inputs_BT = text_BT[:, start : start + targets_BT.shape[1]]
            resets = self._resets(ids, np.arange(start, start + targets_BT.shape[1]))
            logits_BTV, end = read_with_resets(self._model, inputs_BT, state, resets, time_dim=1)
            state = end.detach()
            torch.autograd.backward(summed_nats(logits_BTV, targets_BT) / targets_BT.numel())
            yield exact_loss(logits_BTV.detach(), targets_BT)

    def _resets(self, ids: Ids, positions: NDArray[np.integer]) -> Resets | None:
        if self._separator is None:
            return None
        starts_BT = torch.from_numpy(document_starts(ids, positions[None], self._separator))
        return Resets.of(starts_BT, self.weights[0].device)


def _root_mean_squares(reader: _Reader, ids: Ids, num_pieces: int) -> list[Tensor]:
    """Of each weight's gradients over the text's first pieces."""
    sums, num_read = [torch.zeros_like(weight) for weight in reader.weights], 0
    for _ in islice(reader.read(ids), num_pieces):
        num_read += 1
        for total, weight in zip(sums, reader.weights, strict=True):
            total.addcmul_(_gradient(weight), _gradient(weight))
    return [(total / num_read).sqrt() for total in sums]


@torch.no_grad()
def _adapt(weights: Sequence[Tensor], start: list[Tensor], steps: list[Tensor], decays: list[Tensor]) -> None:
    """One step down the loss of the piece just read, and one of decay."""
    for weight, origin, step, decay in zip(weights, start, steps, decays, strict=True):
        weight.add_(decay * (origin - weight) - step * _gradient(weight))


@torch.no_grad()
def _reset(weights: Sequence[Tensor], start: list[Tensor]) -> None:
    for weight, origin in zip(weights, start, strict=True):
        weight.copy_(origin)
        weight.grad = None


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad
