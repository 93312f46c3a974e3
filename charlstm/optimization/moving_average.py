"""The exponential moving average of a model's weights."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

NUM_UPDATES = "num_updates"  # key in the state dict, besides the names of the weights


class MovingAverage:
    """An exponential moving average of a model's weights, held in `module`.

    `update` must be called after every step. After t updates, the decay is min(decay, (1 + t) /
    (10 + t)), as in TensorFlow's ExponentialMovingAverage. The decay begins small, so that the
    random initial weights are soon forgotten.

    A decay of 0 means no averaging: `module` shares the model's tensors, and there is no state.
    `module` is still a separate module, because Accelerate wraps the model's `forward` in autocast,
    while validation runs in full precision.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        shared = {id(weight): weight for weight in model.parameters()} if decay == 0 else {}
        self.module = copy.deepcopy(model, memo=shared)
        for layer in self.module.modules():
            if isinstance(layer, nn.LSTM):
                # cuDNN needs contiguous weights, but `deepcopy` copies each weight separately.
                layer.flatten_parameters()
        self._decay = decay
        self._num_updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Add the current weights of `model` to the average."""
        if self._decay == 0:
            return
        averages = [weight.detach() for weight in self.module.parameters()]
        weights = [weight.detach() for weight in model.parameters()]
        t = self._num_updates
        if t == 0:
            torch._foreach_copy_(averages, weights)
        else:
            torch._foreach_lerp_(averages, weights, 1 - min(self._decay, (1 + t) / (10 + t)))
        self._num_updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged weights and the number of updates, or {} if averaging is off."""
        if self._decay == 0:
            return {}
        return {NUM_UPDATES: torch.tensor(self._num_updates), **self.module.state_dict()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the state that `state_dict` returned."""
        if self._decay != 0:
            averages = dict(state)
            self._num_updates = int(averages.pop(NUM_UPDATES))
            self.module.load_state_dict(averages)
