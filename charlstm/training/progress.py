"""The progress of a training: its state, its observers, and a meter for losses and speed.

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

# Takes this process's values (K,). Returns the values (N, K) of all processes.
Gather = Callable[[Tensor], Tensor]


@dataclass
class StepTotals:
    """Totals of the steps since the last logged row, identical on every process."""

    nats: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    num_chars: int = 0
    rate: float = 0.0


@dataclass
class Progress:
    """The progress after `step` optimizer updates, `step_in_epoch` of them in the current epoch."""

    step: int = 0
    step_in_epoch: int = 0
    # Training loss of the current epoch, summed over the steps up to the last logged row.
    loss: LossSum = field(default_factory=LossSum)
    epoch_seconds: float = 0.0
    # Time spent in the steps of all finished epochs.
    train_seconds: float = 0.0
    steps: list[StepRow] = field(default_factory=list)
    epochs: list[EpochRow] = field(default_factory=list)
    best: EpochRow | None = None
    # Validation loss of the model from which training starts. None if the weights are random.
    initial_nats_per_char: float | None = None
    totals: StepTotals = field(default_factory=StepTotals)

    @property
    def epoch(self) -> int:
        """Number of the current epoch, counted from 1."""
        return len(self.epochs) + 1


class Plan(NamedTuple):
    """A description of the training that is about to start."""

    num_epochs: int
    num_steps: int
    chars_per_epoch: int
    num_parameters: int
    num_processes: int
    device: str
    precision: str
    precision_reason: str
    unit: Unit  # whether an id is a character or a byte


class Step(NamedTuple):
    """The results of one optimizer update. Tensors are scalars that may still be on the device."""

    number: int  # number of updates, up to and including this one
    rate: float
    nats: Tensor  # loss summed over this process's rows
    gradient_norm: Tensor  # norm of the global gradient before clipping


class Observer:
    """An observer of training, such as a console or a tracker. It cannot change the result.

    A subclass overrides only the methods that it needs.
    """

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """React to the start of training. After a restart, `progress` has the earlier results."""

    def on_steps(self, row: StepRow, chars_per_second: float, ids_seen: int) -> None:
        """React to a new row of the training history: a summary of the steps since the last row.

        `ids_seen` is the number of ids that training has read, including repetitions.
        """

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """React to the end of an epoch. `model` has the averaged weights that were validated.

        `train_seconds` is the time spent in the steps of the epoch.
        """


class StepMeter:
    """A meter that adds the losses, gradient norms and learning rates of steps to `progress`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._pending: list[Step] = []

    def start_clock(self) -> None:
        """Start measuring speed now, so that validation and restarts do not count."""
        self._num_timed_chars = 0
        self._started = time.perf_counter()

    def add(self, step: Step, num_chars: int) -> None:
        """Add a step that scored `num_chars` characters in the global batch."""
        self._pending.append(step)
        self._progress.totals.num_chars += num_chars
        self._num_timed_chars += num_chars

    def flush(self, gather: Gather) -> None:
        """Read the losses of all added steps from the device, and sum them over processes.

        Collective: every process must call this.

        Raises:
            TrainingError: a loss or a gradient is not finite.
        """
        if not self._pending:
            return
        totals = self._progress.totals
        steps, rates, nats, norms = zip(*self._pending, strict=True)
        # Convert to float64 on the CPU, because not every device supports float64.
        nats_KN = gather(torch.stack(nats)).cpu().double().T.tolist()
        norms_K = torch.stack(norms).cpu().double().tolist()
        for step, rate, nats_N, norm in zip(steps, rates, nats_KN, norms_K, strict=True):
            if not all(map(math.isfinite, [*nats_N, norm])):
                fault = describe_nonfinite(step, rate, nats_N, norm)
                raise TrainingError(f"{fault}; the last checkpoint is unchanged; {ADVICE}")
            totals.nats.append(sum(nats_N))
            totals.gradient_norms.append(norm)
        totals.rate = rates[-1]
        self._pending.clear()

    def read(self, gather: Gather) -> StepRow | None:
        """Add a row for the steps since the last row to the history. Return the row.

        All processes get the same values. There is no row if no character was scored, because every
        step was skipped or all predicted bytes only continue a character.
        Collective: every process must call this.

        Raises:
            TrainingError: a loss or a gradient is not finite.
        """
        self.flush(gather)
        progress = self._progress
        totals = progress.totals
        progress.totals = StepTotals()
        loss = LossSum(sum(totals.nats), totals.num_chars)
        progress.loss = progress.loss.plus(loss)
        if loss.num_chars == 0:
            return None
        norm = sum(totals.gradient_norms) / len(totals.gradient_norms)
        row = StepRow(progress.step, progress.epoch, loss.nats_per_char, totals.rate, norm)
        progress.steps.append(row)
        return row

    def chars_per_second(self) -> float:
        """Return the training speed since the last call of `start_clock`."""
        return self._num_timed_chars / (time.perf_counter() - self._started)


ADVICE = (
    "lower train.learning_rate, raise train.warmup_steps, set train.gradient_clip_norm, or set "
    "train.on_nonfinite to 'skip'"
)


def describe_nonfinite(step: int, rate: float, nats_N: list[float], gradient_norm: float) -> str:
    """Return a message that says which value of a step is not finite, and on which processes."""
    ranks = [str(rank) for rank, nats in enumerate(nats_N) if not math.isfinite(nats)]
    where = f"the loss of process {', '.join(ranks)}" if ranks else "the gradient"
    settings = f"learning rate {rate:g}, gradient norm {gradient_norm:g}"
    return f"{where} is not finite at step {step} ({settings})"
