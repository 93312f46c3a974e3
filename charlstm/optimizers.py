"""Which weights are moved by which optimiser."""

import torch

from charlstm.model import CharLSTM
from charlstm.muon import Muon


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
) -> list[torch.optim.Optimizer]:
    """AdamW (Loshchilov & Hutter 2019) for all weights, or Muon for the matrices inside the LSTM layers and AdamW for
    what is left.

    Each parameter group has its peak learning rate under `peak`, for the schedule.
    """
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    inner = {name: weight for name, weight in trained.items() if name.startswith("layers.") and weight.dim() == 2}
    others = [weight for name, weight in trained.items() if not (has_muon and name in inner)]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            others,
            learning_rate,
            betas,
            weight_decay=weight_decay,
            fused=others[0].device.type in ("cpu", "cuda"),
        )
    ]
    if has_muon:
        muon = Muon(
            inner.values(),
            muon_learning_rate,
            momentum=muon_momentum,
            weight_decay=weight_decay,
            num_rows=model.shape.hidden_size,
            dtype=muon_dtype,
        )
        optimizers.append(muon)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers
