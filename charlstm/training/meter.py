"""Losses of steps that still lie on the device: read, summed over processes and divided together.

Reading a loss waits for the device, so it is done once every `log_every_steps` steps.
Shapes: N processes, K steps.
"""

import math
import time
from collections.abc import Callable
from dataclasses import field

import torch
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass
from torch import Tensor

from charlstm.errors import TrainingError
from charlstm.model.loss import LossSum
from charlstm.training.history import StepRow

Gather = Callable[[Tensor], Tensor]  # this process's values (K,) -> all processes' (N, K), on the CPU


@dataclass
class _Totals:
    """What was read of steps, the same on every process."""

    nats: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    num_chars: int = 0
    rate: float = 0.0


_TOTALS = TypeAdapter(_Totals)


class StepMeter:
    """What a few consecutive steps had for losses, gradient norms and learning rates."""

    def __init__(self) -> None:
        self._totals = _Totals()
        self._pending: list[tuple[int, float, Tensor, Tensor]] = []
        self.start_clock()

    def start_clock(self) -> None:
        """Measure speed from here on: what came before (validation, texts, a restart) is no step."""
        self._num_timed_chars, self._started = 0, time.perf_counter()

    def add(self, step: int, rate: float, num_chars: int, nats: Tensor, gradient_norm: Tensor) -> None:
        """One step: its number, the learning rate, the global number of characters; this process's summed loss and
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
        nats_NK, norms_K = gather(_float64(nats)), _float64(norms).tolist()
        for step, rate, nats_N, norm in zip(steps, rates, nats_NK.T.tolist(), norms_K, strict=True):
            if not all(map(math.isfinite, [*nats_N, norm])):
                raise TrainingError(
                    f"{describe_nonfinite(step, rate, nats_N, norm)}; the last checkpoint stands; {ADVICE}"
                )
            self._totals.nats.append(sum(nats_N))
            self._totals.gradient_norms.append(norm)
            self._totals.rate = rate
        self._pending.clear()

    def read(self, step: int, epoch: int, gather: Gather) -> tuple[StepRow | None, LossSum] | None:
        """The mean of the steps, which end with `step`, and the sum it was made of; None if no step was counted.

        The same on every process. There is a sum and no mean if bytes were guessed, but none that begins a character.

        Raises:
            TrainingError: as `flush`.
        """
        self.flush(gather)
        totals = self._totals
        if not totals.nats:
            return None
        loss = LossSum(sum(totals.nats), totals.num_chars)
        if loss.num_chars == 0:
            return None, loss
        norm = sum(totals.gradient_norms) / len(totals.gradient_norms)
        return StepRow(step, epoch, loss.nats_per_char, totals.rate, norm), loss

    def chars_per_second(self) -> float:
        """Of the steps since the clock was started."""
        return self._num_timed_chars / (time.perf_counter() - self._started)

    def to_json(self) -> str:
        """What was read so far; call `flush` before."""
        assert not self._pending
        return _TOTALS.dump_json(self._totals).decode()

    @classmethod
    def from_json(cls, text: str) -> "StepMeter":
        """What `to_json` gave, read back.

        Raises:
            ValueError: something else.
        """
        meter = cls()
        meter._totals = _TOTALS.validate_json(text)
        return meter


ADVICE = (
    "lower train.learning_rate, or set train.gradient_clip_norm, a longer train.warmup_steps, or "
    "train.on_nonfinite: skip"
)


def describe_nonfinite(step: int, rate: float, nats_N: list[float], gradient_norm: float) -> str:
    """What is wrong with the step, and on which processes."""
    ranks = [str(rank) for rank, nats in enumerate(nats_N) if not math.isfinite(nats)]
    where = f"the loss of process {', '.join(ranks)}" if ranks else "the gradient"
    return f"{where} is not finite at step {step} (learning rate {rate:g}, gradient norm {gradient_norm:g})"


def _float64(values: tuple[Tensor, ...]) -> Tensor:
    return torch.stack(values).cpu().double()  # in this order: not every device has float64
