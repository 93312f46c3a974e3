"""Dynamic evaluation: the weights follow the text while it is read (Krause et al. 2018).

Usage: python -m benchmarks.dynamic NAME [--seeds 3]

The models of a recipe, and their ensemble (`benchmarks.recipes`), read the validation part. Models that are missing are
trained.

The text is scored in pieces, left to right, with the state carried. Only after a piece is scored do the weights take
a step down its loss. From there on the model expects what is typical of this text: a name, a speaker, a phrase. Each
step also decays the weights towards those that training found. Never compare such a loss with a static protocol's,
whose model does not learn from the text that it is tested on.

Shapes: B rows, T time steps, V vocabulary; a text is one row.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import new_parser, print_table
from benchmarks.recipes import Ensemble, available
from benchmarks.trials import Trial, load_data, trained
from charlstm.evaluation.difference import mean_and_deviation
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.layers import Resets, read_with_resets
from charlstm.model.loss import LossSum, exact_loss, summed_nats
from charlstm.text.encoded import EncodedText
from pipeline.stage.stage import guarded

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
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


def main() -> int:
    """Print a Markdown table."""
    parser = new_parser(__doc__)
    parser.add_argument("name", choices=available(), metavar="NAME", help=f"of {', '.join(available())}")
    parser.add_argument("--seeds", type=int, default=3, help="models, trained with the seeds 1, 2, ...")
    arguments = parser.parse_args()
    if arguments.seeds < 1:
        parser.error("--seeds: expected 1 or more")
    models = [trained(Trial((f"recipe={arguments.name}",), seed)) for seed in range(1, arguments.seeds + 1)]
    data, rule = load_data(), DynamicRule()
    losses = [dynamic(model, data.val, data.train, rule).nats_per_char for model in models]
    together = dynamic(Ensemble(models), data.val, data.train, rule).nats_per_char
    rows = [[f"`{arguments.name}`", str(len(models)), mean_and_deviation(losses)]]
    rows.append([f"the ensemble of `{arguments.name}`", str(len(models)), f"{together:.4f}"])
    print_table(("recipe", "seeds", "dynamic"), rows)
    return 0


def best_rule(model: CharLSTM | Ensemble, text: EncodedText, train: EncodedText) -> DynamicRule:
    """The rule whose rate is best for a text that is not the one to be scored."""
    rules = [DynamicRule(learning_rate=rate) for rate in RATES]
    roots = _root_mean_squares(_Reader(model, rules[0].piece_len), train, rules[0].num_training_pieces)
    return min(rules, key=lambda rule: _followed(model, text, roots, rule).nats_per_char)


def dynamic(model: CharLSTM | Ensemble, text: EncodedText, train: EncodedText, rule: DynamicRule) -> LossSum:
    """The loss of one pass over `text`, from a zero state, and again from one before each document.

    Weights that require gradients adapt; there must be one (`load_model` gives none). All weights are as before when
    it returns. Mean squares come from the beginning of `train`.
    """
    roots = _root_mean_squares(_Reader(model, rule.piece_len), train, rule.num_training_pieces)
    return _followed(model, text, roots, rule)


def _followed(model: CharLSTM | Ensemble, text: EncodedText, roots: list[Tensor], rule: DynamicRule) -> LossSum:
    """The loss of one pass, by the root mean squares of the weights' gradients in training."""
    reader = _Reader(model, rule.piece_len)
    start = [weight.detach().clone() for weight in reader.weights]
    total = LossSum(0.0, 0)
    try:
        mean = torch.cat([root.flatten() for root in roots]).mean()
        steps = [rule.learning_rate / (root + EPSILON) for root in roots]
        decays = [(rule.decay * root / mean).clamp(max=1.0) for root in roots]
        for loss in reader.read(text):
            total = total.plus(loss)
            _adapt(reader.weights, start, steps, decays)
    finally:
        _reset(reader.weights, start)
    return total


class _Reader:
    """Reads a text piece by piece and leaves each piece's gradient in the weights' `grad`."""

    def __init__(self, model: CharLSTM | Ensemble, piece_len: int) -> None:
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._model, self._piece_len = model, piece_len
        assert self.weights, "no weight requires gradients"

    def read(self, text: EncodedText) -> Iterator[LossSum]:
        """The loss of each piece; the last one may be shorter."""
        state = self._model.zero_state(1)
        device = state.hidden.device
        for start in range(0, len(text) - 1, self._piece_len):
            windows = text.windows(np.arange(start, min(start + self._piece_len, len(text) - 1))[None])
            inputs_BT, targets_BT = (torch.from_numpy(ids_BT).to(device) for ids_BT in windows[:2])
            starts_BT = None if windows.starts_BT is None else torch.from_numpy(windows.starts_BT)
            self._model.zero_grad()
            resets = Resets.of(starts_BT, device)
            logits_BTV, end = read_with_resets(self._model, inputs_BT, state, resets, time_dim=1)
            state = end.detach()
            torch.autograd.backward(summed_nats(logits_BTV, targets_BT) / targets_BT.numel())
            yield exact_loss(logits_BTV.detach(), targets_BT, text.unit)


def _root_mean_squares(reader: _Reader, text: EncodedText, num_pieces: int) -> list[Tensor]:
    """Of each weight's gradients over the text's first pieces."""
    sums, num_read = [torch.zeros_like(weight) for weight in reader.weights], 0
    for _ in islice(reader.read(text), num_pieces):
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


if __name__ == "__main__":
    sys.exit(guarded(main))
