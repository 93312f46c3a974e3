"""Muon: steps whose direction is an orthogonal matrix, for the matrices between hidden features (Jordan et al. 2024).

A gradient matrix is dominated by a few directions. Muon brings all its singular values near 1, so that the weights
move about equally far in every direction that the gradient has at all. `torch.optim.Muon` does the same for whole
parameters; here each gate's matrix is one, also where four lie stacked in one parameter, so that `gates` and `fused`
train alike.
Shapes: G gates, H hidden units, I input features.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from charlstm.optimization.sharding import Peers, compute_sharded

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

    Every process keeps the momentum of all matrices, which is cheap. The products are shared out: each process makes
    some of the updates, and receives all.

    Args:
        params: groups of matrices, (G * H, I), each group with its `num_rows`: H, the rows that make one matrix. A
            gate's, where four lie stacked in one parameter.
        lr: the length of a step: the update of a gate has singular values near `lr * sqrt(max(1, H / I))`.
        momentum: of the gradient's running mean.
        weight_decay: decoupled, times `lr`, as in AdamW.
        dtype: in which matrices are multiplied; bf16 is enough for the purpose.
        peers: the processes with the same weights and gradients; all of them call `step`, or none.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype,
        peers: Peers,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._dtype, self._peers = dtype, peers

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        assert closure is None
        matrices = [
            matrix
            for group in self.param_groups
            for weight in group["params"]
            if weight.grad is not None
            for matrix in self._matrices(weight, weight.grad, group)
        ]
        if not matrices:
            return
        updates = compute_sharded(
            lambda index: orthogonalize(matrices[index].direction_HI().to(self._dtype)),
            [matrix.weight_HI for matrix in matrices],
            self._dtype,
            self._peers,
        )
        for matrix, update_HI in zip(matrices, updates, strict=True):
            matrix.move(update_HI)

    def _matrices(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> "list[_Matrix]":
        state = self.state[weight]
        if "mean" not in state:
            state["mean"] = torch.zeros_like(gradient)
        mean = state["mean"].lerp_(gradient, 1 - group["momentum"])
        weights, gradients, means = (
            x.unflatten(0, (-1, group["num_rows"])) for x in (weight, gradient, mean)
        )
        return [_Matrix(*parts, group) for parts in zip(weights, gradients, means, strict=True)]


class _Matrix(NamedTuple):
    """One gate's part of a parameter, or the whole of it."""

    weight_HI: Tensor
    gradient_HI: Tensor
    mean_HI: Tensor
    group: dict[str, Any]

    def direction_HI(self) -> Tensor:
        """The update's direction: Nesterov's momentum."""
        return self.gradient_HI.lerp(self.mean_HI, self.group["momentum"])

    def move(self, update_HI: Tensor) -> None:
        """Shrink the weight, and subtract the update."""
        num_rows, num_columns = self.weight_HI.shape
        self.weight_HI.mul_(1 - self.group["lr"] * self.group["weight_decay"])
        self.weight_HI.add_(
            update_HI, alpha=-self.group["lr"] * max(1, num_rows / num_columns) ** 0.5
        )


def orthogonalize(matrix_HI: Tensor) -> Tensor:
    """The matrix with singular values near 1 and the same vectors, by products alone; a zero matrix stays zero.

    One matrix at a time: a batch's products may have other bits than those of its matrices, and a process's batch would
    depend on how many processes there are. It is also no slower on CPUs.
    """
    is_tall = matrix_HI.shape[0] > matrix_HI.shape[1]
    x = matrix_HI.mT if is_tall else matrix_HI
    x = x / (x.norm() + 1e-7)
    for a, b, c in QUINTICS:
        squared = x @ x.mT
        x = torch.addmm(x, torch.addmm(squared, squared, squared, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x
