"""The optimizer and the learning rate of every weight, and the moving average of the weights."""

import copy
import math

import torch
from torch import Tensor, nn

from charlstm.model.char_lstm import CharLSTM
from charlstm.optimization.muon import Muon, Peers


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
    """Create the optimizers: AdamW (Loshchilov & Hutter 2019), and also Muon if `has_muon`.

    Muon trains the matrices of the LSTM layers and of the feed-forward block. AdamW trains all
    other weights. `peers` share Muon's matrix products.

    Every parameter group stores its peak learning rate under `peak`, for the schedule.
    """
    # A layer's parameter holds one or four gates. A feed-forward matrix is never divided.
    gates = [weight for weight in model.layers.parameters() if weight.dim() == 2]
    whole = list(model.feed_forward.parameters())
    for_muon = {id(weight) for weight in (*gates, *whole)} if has_muon else set()

    others = [
        weight
        for weight in model.parameters()
        if weight.requires_grad and id(weight) not in for_muon
    ]
    is_fused = others[0].device.type in ("cpu", "cuda")
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, learning_rate, betas, weight_decay=weight_decay, fused=is_fused)
    ]
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


def learning_rate(step: int, *, warmup_steps: int, num_steps: int, final_fraction: float) -> float:
    """Return the learning rate at `step`, counted from 0, as a fraction of the peak rate.

    The warm-up is linear. Then the rate follows half a cosine (Loshchilov & Hutter 2017) down to
    `final_fraction` at the last step. `final_fraction=1` keeps the rate constant.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - 1 - warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return final_fraction + (1 - final_fraction) * cosine


class MovingAverage(nn.Module):
    """An exponential moving average of a model's weights, held in `model`.

    `update` must be called after every step. After t updates, the decay is min(decay, (1 + t) /
    (10 + t)), as in TensorFlow's ExponentialMovingAverage. The decay begins small, so that the
    random initial weights are soon forgotten. With a decay of 0, the average has the weights of the
    last step.
    """

    num_updates: Tensor  # on the CPU, because reading a number on a GPU would wait for the GPU

    def __init__(self, model: CharLSTM, decay: float) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        for layer in self.model.modules():
            if isinstance(layer, nn.LSTM):
                # cuDNN needs contiguous weights, but `deepcopy` copies each weight separately.
                layer.flatten_parameters()
        self.register_buffer("num_updates", torch.tensor(0))
        self._decay = decay

    @torch.no_grad()
    def update(self, model: CharLSTM) -> None:
        """Add the current weights of `model` to the average."""
        averages = [weight.detach() for weight in self.model.parameters()]
        weights = [weight.detach() for weight in model.parameters()]
        t = int(self.num_updates)
        if t == 0:
            torch._foreach_copy_(averages, weights)
        else:
            torch._foreach_lerp_(averages, weights, 1 - min(self._decay, (1 + t) / (10 + t)))
        self.num_updates += 1
