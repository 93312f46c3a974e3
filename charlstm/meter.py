"""Losses of steps that still lie on the device: read, summed over processes and divided together.

Reading a loss waits for the device, so it is done once every `log_every_steps` steps.
"""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from charlstm.errors import TrainingError
from charlstm.history import StepRow
from charlstm.loss import LossSum


class StepMeter:
    """What a few consecutive steps had for losses, gradient norms and learning rates."""

    def __init__(self) -> None:
        self._nats: list[Tensor] = []
        self._gradient_norms: list[Tensor] = []
        self._rates: list[float] = []
        self._num_chars = 0
        self._started = time.perf_counter()

    def add(self, nats: Tensor, gradient_norm: Tensor, rate: float, num_chars: int) -> None:
        """One step: this process's summed loss, the global gradient norm, the rate, the global number of characters."""
        self._nats.append(nats)
        self._gradient_norms.append(gradient_norm)
        self._rates.append(rate)
        self._num_chars += num_chars

    def read(self, step: int, epoch: int, sum_over_processes: Callable[[Tensor], Tensor]) -> tuple[StepRow, LossSum]:
        """The mean of the steps, which end with `step`, and the sum it was made of; the same on every process.

        Raises:
            TrainingError: the loss is not finite.
        """
        loss = LossSum(float(sum_over_processes(_float64(self._nats).sum())), self._num_chars)
        gradient_norms = _float64(self._gradient_norms)
        if not math.isfinite(loss.nats):
            raise TrainingError(
                f"the loss is not finite by step {step} (learning rate {self._rates[-1]:g}, gradient norms up to "
                f"{gradient_norms.max():g}); lower train.learning_rate, or set train.gradient_clip_norm or a longer "
                f"train.warmup_steps"
            )
        return StepRow(step, epoch, loss.nats_per_char, self._rates[-1], float(gradient_norms.mean())), loss

    def seconds(self) -> float:
        """Since this meter was made."""
        return time.perf_counter() - self._started


def _float64(values: list[Tensor]) -> Tensor:
    return torch.stack(values).cpu().double()  # in this order: not every device has float64
