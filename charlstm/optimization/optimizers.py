"""Which weights are moved by which optimizer, at what learning rate, and their moving average."""

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
    """AdamW (Loshchilov & Hutter 2019) for all weights, or Muon for the matrices between hidden features (those of the
    LSTM layers and of the feed-forward block) and AdamW for what is left. `peers` share Muon's products out.

    Each parameter group has its peak learning rate under `peak`, for the schedule.
    """
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    gates = [
        weight for weight in model.layers.parameters() if weight.requires_grad and weight.dim() == 2
    ]
    whole = list(model.feed_forward.parameters())
    inner = {id(weight) for weight in (*gates, *whole)} if has_muon else set()
    others = [weight for weight in trained if id(weight) not in inner]
    is_fused = others[0].device.type in ("cpu", "cuda")
    adamw = torch.optim.AdamW(
        others, learning_rate, betas, weight_decay=weight_decay, fused=is_fused
    )
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
