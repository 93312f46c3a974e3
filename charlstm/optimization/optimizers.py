"""The assignment of an optimizer and a peak learning rate to every weight."""

import math

import torch

from charlstm.model.char_lstm import CharLSTM
from charlstm.optimization.muon import Muon
from charlstm.optimization.sharding import Peers


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
