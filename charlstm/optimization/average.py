"""The moving average of the weights, which is validated, sampled from and kept. At a decay of 0 it is the weights."""

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
        """Include `model`'s weights after one more step."""

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint must keep of it."""

    def load_state_dict(self, state_dict: Mapping[str, Tensor], /) -> object:
        """Restore what `state_dict` gave."""


def moving_average(model: nn.Module, decay: float) -> Average:
    """An exponential moving average of `model`'s weights; call `update_parameters(model)` after every step.

    The decay is smaller at first, so that the random initial weights are soon forgotten: after t updates it is
    min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage. t is part of the `state_dict`.
    `decay=0` is the weights themselves, without a copy.
    """
    return _NoAverage(model) if decay == 0 else _MovingAverage(model, decay)


class _MovingAverage(AveragedModel):
    """Torch's own `update_parameters` sends t to the device at every step, and waits there until it has arrived."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self._decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        averages, weights = ([weight.detach() for weight in one.parameters()] for one in (self.module, model))
        t = int(self.n_averaged)  # it lies on the CPU
        if t == 0:
            torch._foreach_copy_(averages, weights)
        else:
            torch._foreach_lerp_(averages, weights, 1 - min(self._decay, (1 + t) / (10 + t)))
        self.n_averaged += 1


class _NoAverage:
    """A copy of a model that shares its weights' tensors, so there is nothing to update or to keep.

    It is not the model itself: Accelerate wraps that one's `forward` in autocast, and validation is in full precision.
    """

    def __init__(self, model: nn.Module) -> None:
        self.module = copy.deepcopy(model, memo={id(weight): weight for weight in model.parameters()})

    def update_parameters(self, model: nn.Module, /) -> None:
        pass

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Tensor], /) -> None:
        pass
