"""The progress of a training: its records, their observers, and losses not read from the device.

Reading a loss waits for the device, so losses are read once every `log_every_steps` steps.
Shapes: N processes, K steps.
"""

import math
import time
from collections.abc import Callable
from dataclasses import field
from typing import NamedTuple

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from charlstm.errors import TrainingError
from charlstm.history import EpochRow, StepRow
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.protocols import LossSum
from charlstm.text.vocabulary import Unit

# Takes this process's values (K,) and returns all processes' values (N, K) on the CPU.
Gather = Callable[[Tensor], Tensor]


@dataclass
class StepTotals:
    """Totals of the steps since the last row, the same on every process."""

    nats: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    num_chars: int = 0
    rate: float = 0.0


@dataclass
class Progress:
    """The progress after `step` optimizer updates, `step_in_epoch` of them in the current epoch."""

    step: int = 0
    step_in_epoch: int = 0
    # The training loss of the current epoch.
    loss: LossSum = field(default_factory=lambda: LossSum(0.0, 0))
    epoch_seconds: float = 0.0
    # Time in the steps of all finished epochs.
    train_seconds: float = 0.0
    steps: list[StepRow] = field(default_factory=list)
    epochs: list[EpochRow] = field(default_factory=list)
    best: EpochRow | None = None
    # Validation loss of the trained model that training starts from, if there is such a model.
    initial_nats_per_char: float | None = None
    totals: StepTotals = field(default_factory=StepTotals)

    @property
    def epoch(self) -> int:
        """The current epoch, from 1."""
        return len(self.epochs) + 1


class Plan(NamedTuple):
    """The training that is about to run."""

    num_epochs: int
    num_steps: int
    chars_per_epoch: int
    num_parameters: int
    num_processes: int
    device: str
    precision: str
    precision_reason: str
    unit: Unit  # a character or a byte for each id


class Step(NamedTuple):
    """The results of an optimizer update. Tensors are scalars that may still be on the device."""

    number: int  # of updates, with this one
    rate: float
    nats: Tensor  # summed over this process's rows
    gradient_norm: Tensor  # of the global gradient, before clipping


class Observer:
    """An observer of training, such as a console or a tracker. It cannot change the result.

    A subclass may leave methods out.
    """

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """React to the start. `progress` has the results of earlier starts of this training."""

    def on_steps(self, row: StepRow, chars_per_second: float, ids_seen: int) -> None:
        """React to `log_every_steps` steps, with their mean in `row`.

        `ids_seen` counts the ids that training has read, including repeated ones.
        """

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """React to an epoch. `model` has the averaged weights that were validated.

        `train_seconds` is the time in the epoch's steps.
        """


class StepMeter:
    """A meter that adds the losses, gradient norms and learning rates of steps to `totals`."""

    def __init__(self, totals: StepTotals) -> None:
        self._totals = totals
        self._pending: list[Step] = []
        self.start_clock()

    def start_clock(self) -> None:
        """Measure speed from now on, so that validation and restarts do not count."""
        self._num_timed_chars = 0
        self._started = time.perf_counter()

    def add(self, step: Step, num_chars: int) -> None:
        """Add a step that scored `num_chars` characters in the global batch."""
        self._pending.append(step)
        self._totals.num_chars += num_chars
        self._num_timed_chars += num_chars

    def flush(self, gather: Gather) -> None:
        """Wait for the losses of all added steps and sum the losses over processes.

        Collective: every process must call this.

        Raises:
            TrainingError: a loss or a gradient is not finite.
        """
        if not self._pending:
            return
        steps, rates, nats, norms = zip(*self._pending, strict=True)
        nats_KN = gather(_float64(nats)).T.tolist()
        norms_K = _float64(norms).tolist()
        for step, rate, nats_N, norm in zip(steps, rates, nats_KN, norms_K, strict=True):
            if not all(map(math.isfinite, [*nats_N, norm])):
                fault = describe_nonfinite(step, rate, nats_N, norm)
                raise TrainingError(f"{fault}; the last checkpoint is unchanged; {ADVICE}")
            self._totals.nats.append(sum(nats_N))
            self._totals.gradient_norms.append(norm)
            self._totals.rate = rate
        self._pending.clear()

    def read(self, step: int, epoch: int, gather: Gather) -> tuple[StepRow | None, LossSum]:
        """Return the mean of the added steps, which end with `step`, and their summed loss.

        All processes get the same values. The mean is None if there are no scored characters:
        every step was skipped, or the predicted bytes only continue a character. Collective: every
        process must call this.

        Raises:
            TrainingError: a loss or a gradient is not finite.
        """
        self.flush(gather)
        totals = self._totals
        loss = LossSum(sum(totals.nats), totals.num_chars)
        if loss.num_chars == 0:
            return None, loss
        norm = sum(totals.gradient_norms) / len(totals.gradient_norms)
        return StepRow(step, epoch, loss.nats_per_char, totals.rate, norm), loss

    def chars_per_second(self) -> float:
        """Return the speed since the clock was started."""
        return self._num_timed_chars / (time.perf_counter() - self._started)


ADVICE = (
    "lower train.learning_rate, or set train.gradient_clip_norm, a longer train.warmup_steps, or "
    "train.on_nonfinite: skip"
)


def describe_nonfinite(step: int, rate: float, nats_N: list[float], gradient_norm: float) -> str:
    """Return a message that says what is not finite at a step, and on which processes."""
    ranks = [str(rank) for rank, nats in enumerate(nats_N) if not math.isfinite(nats)]
    where = f"the loss of process {', '.join(ranks)}" if ranks else "the gradient"
    settings = f"learning rate {rate:g}, gradient norm {gradient_norm:g}"
    return f"{where} is not finite at step {step} ({settings})"


def _float64(values: tuple[Tensor, ...]) -> Tensor:
    # First to the CPU, because not every device has float64.
    return torch.stack(values).cpu().double()
