"""How far a training has come: its records, their observers, and the losses of steps that still lie on the device.

Reading a loss waits for the device, so it is done once every `log_every_steps` steps.
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

Gather = Callable[
    [Tensor], Tensor
]  # this process's values (K,) -> all processes' (N, K), on the CPU


@dataclass
class StepTotals:
    """The totals of the steps since the last row, the same on every process."""

    nats: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    num_chars: int = 0
    rate: float = 0.0


@dataclass
class Progress:
    """After `step` optimizer updates, `step_in_epoch` of them in the current epoch."""

    step: int = 0
    step_in_epoch: int = 0
    loss: LossSum = field(default_factory=lambda: LossSum(0.0, 0))  # of the current epoch
    epoch_seconds: float = 0.0
    train_seconds: float = 0.0  # in steps, of all epochs so far
    steps: list[StepRow] = field(default_factory=list)
    epochs: list[EpochRow] = field(default_factory=list)
    best: EpochRow | None = None
    initial_nats_per_char: float | None = (
        None  # validation, of the model that training begins from, if there is one
    )
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
    unit: Unit  # what an id stands for


class Observer:
    """Watches training, for a console or a tracking server; it cannot change the result.

    A subclass may leave methods out.
    """

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """Before the first step of this start; `progress` is what earlier starts have done."""

    def on_steps(self, row: StepRow, chars_per_second: float, ids_seen: int) -> None:
        """After every `log_every_steps` steps, with their mean. `ids_seen` counts repetitions of the text, too."""

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """After an epoch's validation of `model`, the averaged weights; its steps took `train_seconds`."""


class StepMeter:
    """Adds what a few consecutive steps had for losses, gradient norms and learning rates to `totals`."""

    def __init__(self, totals: StepTotals) -> None:
        self._totals = totals
        self._pending: list[tuple[int, float, Tensor, Tensor]] = []
        self.start_clock()

    def start_clock(self) -> None:
        """Measure speed from here on: what came before (validation, texts, a restart) is no step."""
        self._num_timed_chars, self._started = 0, time.perf_counter()

    def add(
        self, step: int, rate: float, num_chars: int, nats: Tensor, gradient_norm: Tensor
    ) -> None:
        """Add a step: its number, the learning rate, the global number of characters; this process's summed loss and
        the global gradient norm, scalars that may still lie on the device."""
        self._pending.append((step, rate, nats, gradient_norm))
        self._totals.num_chars += num_chars
        self._num_timed_chars += num_chars

    def flush(self, gather: Gather) -> None:
        """Wait for the losses of all steps so far and sum them over processes.

        Raises:
            TrainingError: a loss or a gradient is not finite.
        """
        if not self._pending:
            return
        steps, rates, nats, norms = zip(*self._pending, strict=True)
        nats_KN, norms_K = gather(_float64(nats)).T.tolist(), _float64(norms).tolist()
        for step, rate, nats_N, norm in zip(steps, rates, nats_KN, norms_K, strict=True):
            if not all(map(math.isfinite, [*nats_N, norm])):
                raise TrainingError(
                    f"{describe_nonfinite(step, rate, nats_N, norm)}; the last checkpoint stands; {ADVICE}"
                )
            self._totals.nats.append(sum(nats_N))
            self._totals.gradient_norms.append(norm)
            self._totals.rate = rate
        self._pending.clear()

    def read(self, step: int, epoch: int, gather: Gather) -> tuple[StepRow | None, LossSum]:
        """The mean of the steps, which end with `step`, and the sum it was made of: the same on every process.

        There is no mean if every step was skipped, or if bytes were guessed, but none that begins a character.

        Raises:
            TrainingError: as `flush`.
        """
        self.flush(gather)
        totals = self._totals
        loss = LossSum(sum(totals.nats), totals.num_chars)
        if loss.num_chars == 0:
            return None, loss
        norm = sum(totals.gradient_norms) / len(totals.gradient_norms)
        return StepRow(step, epoch, loss.nats_per_char, totals.rate, norm), loss

    def chars_per_second(self) -> float:
        """Characters per second over the steps since the clock was started."""
        return self._num_timed_chars / (time.perf_counter() - self._started)


ADVICE = (
    "lower train.learning_rate, or set train.gradient_clip_norm, a longer train.warmup_steps, or "
    "train.on_nonfinite: skip"
)


def describe_nonfinite(step: int, rate: float, nats_N: list[float], gradient_norm: float) -> str:
    """A message on what is wrong with the step, and on which processes."""
    ranks = [str(rank) for rank, nats in enumerate(nats_N) if not math.isfinite(nats)]
    where = f"the loss of process {', '.join(ranks)}" if ranks else "the gradient"
    return f"{where} is not finite at step {step} (learning rate {rate:g}, gradient norm {gradient_norm:g})"


def _float64(values: tuple[Tensor, ...]) -> Tensor:
    return torch.stack(values).cpu().double()  # in this order: not every device has float64
