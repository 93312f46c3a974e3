"""The moving average of the weights, which is validated, sampled from and kept; at a decay of 0 just the weights."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of `model`'s weights; call `update_parameters(model)` after every step.

    The memory is short at first: after t updates the decay is min(decay, (1 + t) / (10 + t)), so that the random
    initial weights are soon forgotten (as in TensorFlow's ExponentialMovingAverage). `decay=0` follows the weights.
    t is part of the `state_dict`.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], weights: list[Tensor], _: Tensor | int) -> None:
        t = int(average.n_averaged)  # it lies on the CPU; the first update is a copy, and not asked
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + t) / (10 + t)))

    average = AveragedModel(model, multi_avg_fn=update)  # type: ignore[arg-type]  # it names tuple or list, we take lists
    return average
