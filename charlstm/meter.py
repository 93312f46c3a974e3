"""Losses of steps that still lie on the device: read, summed over processes and divided together.

Reading a loss waits for the device, so it is done once every `log_every_steps` steps.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from charlstm.errors import TrainingError
from charlstm.history import StepRow
from charlstm.loss import LossSum

Gather = Callable[[Tensor], Tensor]  # this process's values (K,) -> all processes' (N, K), on the CPU


@dataclass
class _Known:
    """What was read of steps, the same on every process."""

    nats: list[float] = field(default_factory=list)
    gradient_norms: list[float] = field(default_factory=list)
    num_chars: int = 0
    rate: float = 0.0


class StepMeter:
    """What a few consecutive steps had for losses, gradient norms and learning rates."""

    def __init__(self) -> None:
        self._known = _Known()
        self._pending: list[tuple[int, float, Tensor, Tensor]] = []
        self._num_chars = 0  # since `_started`, for the speed
        self._started = time.perf_counter()

    def add(self, step: int, rate: float, num_chars: int, nats: Tensor, gradient_norm: Tensor) -> None:
        """One step: its number, the learning rate, the global number of characters; this process's summed loss and
        the global gradient norm, scalars that may still lie on the device."""
        self._pending.append((step, rate, nats, gradient_norm))
        self._known.num_chars += num_chars
        self._num_chars += num_chars

    def settle(self, gather: Gather) -> None:
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
                raise TrainingError(f"{describe(step, rate, nats_N, norm)}; the last checkpoint stands; {ADVICE}")
            self._known.nats.append(sum(nats_N))
            self._known.gradient_norms.append(norm)
            self._known.rate = rate
        self._pending.clear()

    def read(self, step: int, epoch: int, gather: Gather) -> tuple[StepRow, LossSum] | None:
        """The mean of the steps, which end with `step`, and the sum it was made of; None if no step was counted.

        The same on every process.

        Raises:
            TrainingError: as `settle`.
        """
        self.settle(gather)
        known = self._known
        if not known.nats:
            return None
        loss = LossSum(sum(known.nats), known.num_chars)
        norm = sum(known.gradient_norms) / len(known.gradient_norms)
        return StepRow(step, epoch, loss.nats_per_char, known.rate, norm), loss

    def chars_per_second(self) -> float:
        """Of the steps that were added here."""
        return self._num_chars / (time.perf_counter() - self._started)

    def as_json(self) -> dict[str, Any]:
        """What was read so far; call `settle` before."""
        assert not self._pending
        return asdict(self._known)

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> "StepMeter":
        """What `as_json` gave, read back."""
        meter = cls()
        meter._known = _Known(**values)
        return meter


ADVICE = (
    "lower train.learning_rate, or set train.gradient_clip_norm, a longer train.warmup_steps, or "
    "train.on_nonfinite: skip"
)


def describe(step: int, rate: float, nats_N: list[float], gradient_norm: float) -> str:
    """What is wrong with the step, and on which processes."""
    ranks = [str(rank) for rank, nats in enumerate(nats_N) if not math.isfinite(nats)]
    where = f"the loss of process {', '.join(ranks)}" if ranks else "the gradient"
    return f"{where} is not finite at step {step} (learning rate {rate:g}, gradient norm {gradient_norm:g})"


def _float64(values: tuple[Tensor, ...]) -> Tensor:
    return torch.stack(values).cpu().double()  # in this order: not every device has float64
