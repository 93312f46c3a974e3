"""Which weights are moved by which optimizer, at what learning rate, and their moving average."""

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from charlstm.model.char_lstm import CharLSTM
from charlstm.optimization.muon import Muon
from charlstm.optimization.sharding import Peers

NUM_UPDATES = "num_updates"  # in the state, next to the names of weights

# The learning rate as a pure function of the step: nothing to save, nothing to restore.


def learning_rate(step: int, *, warmup_steps: int, num_steps: int, final_fraction: float) -> float:
    """The rate of step 0, 1, ..., num_steps - 1, as a fraction of the peak.

    Linear warm-up, then half a cosine (Loshchilov & Hutter 2017) to `final_fraction` at the last step;
    `final_fraction=1` keeps it constant.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - 1 - warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return final_fraction + (1 - final_fraction) * cosine


# The optimizers of a model.


def make_optimizers(
    model: CharLSTM,
    *,
    has_muon: bool,
    learning_rate: float,
    betas: tuple[float, float],
    weight_decay: float,
    muon_learning_rate: float,
    muon_momentum: float,
    muon_dtype: torch.dtype,
    peers: Peers,
) -> list[torch.optim.Optimizer]:
    """AdamW (Loshchilov & Hutter 2019) for all weights, or Muon for the matrices between hidden features (those of the
    LSTM layers and of the feed-forward block) and AdamW for what is left. `peers` share Muon's products out.

    Each parameter group has its peak learning rate under `peak`, for the schedule.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    gates = [weight for weight in model.layers.parameters() if weight.requires_grad and weight.dim() == 2]
    whole = list(model.feed_forward.parameters())
    inner = {id(weight) for weight in (*gates, *whole)} if has_muon else set()
    others = [weight for weight in trained if id(weight) not in inner]
    is_fused = others[0].device.type in ("cpu", "cuda")
    adamw = torch.optim.AdamW(others, learning_rate, betas, weight_decay=weight_decay, fused=is_fused)
    optimizers: list[torch.optim.Optimizer] = [adamw]
    if has_muon:
        muon = Muon(
            [{"params": gates, "num_rows": model.shape.hidden_size}]
            + [{"params": [weight], "num_rows": len(weight)} for weight in whole],
            muon_learning_rate,
            momentum=muon_momentum,
            weight_decay=weight_decay,
            dtype=muon_dtype,
            peers=peers,
        )
        optimizers.append(muon)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


# The moving average of the weights, which is validated, sampled from and kept.


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
        averages, weights = ([weight.detach() for weight in one.parameters()] for one in (self.module, model))
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
            self.module.load_state_dict({name: state[name] for name in state if name != NUM_UPDATES})
