"""Muon: steps whose direction is an orthogonal matrix, for the matrices between hidden features (Jordan et al. 2024).

A gradient matrix is dominated by a few directions. Muon brings all its singular values near 1, so that the weights
move about equally far in every direction that the gradient has at all. `torch.optim.Muon` does the same for whole
parameters; here each gate's matrix is one, also where four lie stacked in one parameter, so that `gates` and `fused`
train alike.
Shapes: G gates, H hidden units, I input features.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# Odd quintics a x + b x^3 + c x^5, one a step, that together bring every singular value from SMALLEST to 1 as near to 1
# as three of them can, within 0.515 (Amsel et al. 2025, Polar Express, algorithm 1); smaller ones grow a hundredfold.
# Each is made for values MARGIN times as large as the step before leaves: bf16 would round some to where it explodes.
SMALLEST, MARGIN = 0.005, 1.02
QUINTICS = (
    (8.140029491872138, -23.036751298422676, 16.396678005632282),
    (3.8517680394412572, -2.7639584664593744, 0.5083958674003041),
    (3.1585933843647434, -2.2836983309739165, 0.4576638525339642),
)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal gate by gate.

    Args:
        params: groups of matrices, (G * H, I), each group with its `num_rows`: H, the rows that make one matrix. A
            gate's, where four lie stacked in one parameter.
        lr: the length of a step: the update of a gate has singular values near `lr * sqrt(max(1, H / I))`.
        momentum: of the gradient's running mean.
        weight_decay: decoupled, times `lr`, as in AdamW.
        dtype: in which matrices are multiplied; bf16 is enough for the purpose.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if "mean" not in state:
            state["mean"] = torch.zeros_like(gradient)
        mean = state["mean"].lerp_(gradient, 1 - group["momentum"])
        direction = gradient.lerp(mean, group["momentum"])
        num_rows, num_columns = group["num_rows"], weight.shape[1]
        update_GHI = orthogonalize(direction.view(-1, num_rows, num_columns).to(self._dtype)).to(weight.dtype)
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        length = group["lr"] * max(1, num_rows / num_columns) ** 0.5
        weight.add_(update_GHI.reshape(weight.shape), alpha=-length)


def orthogonalize(matrices_GHI: Tensor) -> Tensor:
    """The same singular vectors with singular values near 1, by matrix products alone; a zero matrix stays zero."""
    is_tall = matrices_GHI.shape[1] > matrices_GHI.shape[2]
    x = matrices_GHI.mT if is_tall else matrices_GHI
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for a, b, c in QUINTICS:
        squared = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(squared, squared, squared, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x
