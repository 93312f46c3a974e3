"""The moving average of the weights, which is validated, sampled from and kept; at a decay of 0 just the weights."""

import copy
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class Average(Protocol):
    """A model whose weights follow those of another."""

    module: nn.Module

    def update_parameters(self, model: nn.Module, /) -> None:
        """Take account of `model`'s weights after one more step."""

    def state_dict(self) -> dict[str, Tensor]:
        """What it must remember."""

    def load_state_dict(self, state_dict: Mapping[str, Tensor], /) -> object:
        """Remember that instead."""


def moving_average(model: nn.Module, decay: float) -> Average:
    """An exponential moving average of `model`'s weights; call `update_parameters(model)` after every step.

    The memory is short at first: after t updates the decay is min(decay, (1 + t) / (10 + t)), so that the random
    initial weights are soon forgotten (as in TensorFlow's ExponentialMovingAverage). t is part of the `state_dict`.
    `decay=0` is the weights themselves, without a copy.
    """
    if decay == 0:
        return _NoAverage(model)

    @torch.no_grad()
    def update(averages: list[Tensor], weights: list[Tensor], _: Tensor | int) -> None:
        t = int(average.n_averaged)  # it lies on the CPU; the first update is a copy, and not asked
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + t) / (10 + t)))

    average = AveragedModel(model, multi_avg_fn=update)  # type: ignore[arg-type]  # it names tuple or list, we take lists
    return average


class _NoAverage:
    """A twin of a model that has the same tensors as weights: nothing to update, nothing to remember.

    Not the model itself, whose `forward` Accelerate wraps in autocast: validation is in full precision.
    """

    def __init__(self, model: nn.Module) -> None:
        self.module = copy.deepcopy(model, memo={id(weight): weight for weight in model.parameters()})

    def update_parameters(self, model: nn.Module, /) -> None:
        pass

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Tensor], /) -> None:
        pass
