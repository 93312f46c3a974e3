"""The moving average of the weights."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

NUM_UPDATES = "num_updates"  # in the state, next to the names of weights


class MovingAverage:
    """An exponential moving average of a model's weights, in `module`; call `update` after every step.

    The decay is smaller at first, so that the random initial weights are soon forgotten: after t updates it is
    min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage. t is part of the `state_dict`.

    A decay of 0 is the weights themselves: `module` shares their tensors, and there is nothing to update or to keep. It
    is not the model, of which Accelerate wraps `forward` in autocast: validation is in full precision.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        shared = {id(weight): weight for weight in model.parameters()} if decay == 0 else {}
        self.module = copy.deepcopy(model, memo=shared)
        for layer in self.module.modules():
            if isinstance(layer, nn.LSTM):
                layer.flatten_parameters()  # copies lie apart, and cuDNN wants them end to end
        self._decay, self._num_updates = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Include `model`'s weights after one more step."""
        if self._decay == 0:
            return
        averages, weights = (
            [weight.detach() for weight in one.parameters()] for one in (self.module, model)
        )
        if (t := self._num_updates) == 0:
            torch._foreach_copy_(averages, weights)
        else:
            torch._foreach_lerp_(averages, weights, 1 - min(self._decay, (1 + t) / (10 + t)))
        self._num_updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """The averages and the number of updates, for a checkpoint; empty without averaging."""
        if self._decay == 0:
            return {}
        return {NUM_UPDATES: torch.tensor(self._num_updates), **self.module.state_dict()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave."""
        if self._decay != 0:
            self._num_updates = int(state[NUM_UPDATES])
            self.module.load_state_dict(
                {name: state[name] for name in state if name != NUM_UPDATES}
            )
