"""Muon: an optimizer whose updates are orthogonal matrices (Jordan et al. 2024).

A few directions dominate a gradient matrix. Muon brings all its singular values near 1, so that the
weights move about equally far in every direction of the gradient. `torch.optim.Muon` makes the
update of a whole parameter orthogonal. This optimizer makes the update of every gate orthogonal,
even if four gates are stacked in one parameter. So `gates` and `fused` train identically.

Shapes: G gates, H hidden units, I input features, M matrices, P numbers in the largest matrix.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

# Coefficients of odd polynomials a x + b x^3 + c x^5, applied in turn to the singular values.
# The coefficients come from algorithm 1 of Polar Express (Amsel et al. 2025).
# The three polynomials map singular values from SMALLEST to 1 into the range 0.485 to 1.515.
# No other three such polynomials come closer to 1. Values below SMALLEST grow a hundredfold.
# Each polynomial tolerates inputs 2 % above the previous polynomial's range.
# Without this margin, bf16 rounding could make a value so large that the polynomial diverges.
SMALLEST = 0.005
QUINTICS = (
    (8.140029491872138, -23.036751298422676, 16.396678005632282),
    (3.8517680394412572, -2.7639584664593744, 0.5083958674003041),
    (3.1585933843647434, -2.2836983309739165, 0.4576638525339642),
)


class Peers(Protocol):
    """The interface through which the optimizer communicates with the other processes."""

    @property
    def rank(self) -> int:
        """Rank of this process, counted from 0."""

    @property
    def world_size(self) -> int:
        """Number of processes that train together."""

    def gather(self, mine: Tensor) -> Tensor:
        """Return the tensors of all processes, stacked by rank.

        Collective: every process must call this, with a tensor of the same shape and dtype.
        """


class Muon(torch.optim.Optimizer):
    """An optimizer that makes the Nesterov momentum of each gate's matrix orthogonal.

    Every process holds the momentum of all matrices, which is cheap. The matrix products are
    divided among the processes: each computes some of the updates and receives all others.

    Args:
        params: parameter groups of matrices (G * H, I). A group's `num_rows` is H, the number of
            rows of one gate.
        lr: learning rate. A gate's update has singular values near `lr * sqrt(max(1, H / I))`.
        momentum: decay rate of the gradient's running mean.
        weight_decay: decoupled weight decay, multiplied by `lr` as in AdamW.
        dtype: dtype of the matrix products; bf16 is precise enough.
        peers: processes with the same weights and gradients. Either all or none of them call
            `step`.
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
        self._dtype = dtype
        self._peers = peers

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        matrices = [
            matrix
            for group in self.param_groups
            for weight in group["params"]
            if weight.grad is not None
            for matrix in self._matrices(weight, weight.grad, group)
        ]
        updates = self._orthogonalize([matrix.direction_HI for matrix in matrices])
        for (weight_HI, _, group), update_HI in zip(matrices, updates, strict=True):
            num_rows, num_columns = weight_HI.shape
            weight_HI.mul_(1 - group["lr"] * group["weight_decay"])
            weight_HI.add_(update_HI, alpha=-group["lr"] * max(1, num_rows / num_columns) ** 0.5)

    def _orthogonalize(self, directions: list[Tensor]) -> list[Tensor]:
        """Return the orthogonal matrices of all directions, which all processes compute together.

        With n processes, process r computes the matrices r, r + n, r + 2n and so on. The result
        does not depend on n.
        """
        rank = self._peers.rank
        world_size = self._peers.world_size
        num_rounds = -(-len(directions) // world_size)
        largest = max(direction.numel() for direction in directions)
        mine = directions[0].new_zeros((num_rounds, largest), dtype=self._dtype)
        for row_P, direction in zip(mine, directions[rank::world_size], strict=False):
            row_P[: direction.numel()] = orthogonalize(direction.to(self._dtype)).flatten()
        rows_MP = self._peers.gather(mine).transpose(0, 1).flatten(0, 1)
        return [
            row_P[: direction.numel()].view_as(direction)
            for row_P, direction in zip(rows_MP, directions, strict=False)
        ]

    def _matrices(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> "list[_Matrix]":
        """Update a parameter's momentum. Return the parameter's matrices, one for each gate."""
        state = self.state[weight]
        if "mean" not in state:
            state["mean"] = torch.zeros_like(gradient)
        momentum = group["momentum"]
        mean = state["mean"].lerp_(gradient, 1 - momentum)
        direction = gradient.lerp(mean, momentum)
        by_gate = (-1, group["num_rows"], weight.shape[1])
        parts = zip(weight.view(by_gate), direction.view(by_gate), strict=True)
        return [_Matrix(weight_HI, direction_HI, group) for weight_HI, direction_HI in parts]


class _Matrix(NamedTuple):
    """A matrix to update: either one gate's part of a parameter, or a whole parameter."""

    weight_HI: Tensor
    direction_HI: Tensor  # Nesterov momentum
    group: dict[str, Any]


def orthogonalize(matrix_HI: Tensor) -> Tensor:
    """Return a matrix with the singular vectors of `matrix_HI` and with singular values near 1.

    Only matrix products are computed. A zero matrix stays zero. Matrices are not batched: a batched
    product may differ in its last bits, and the size of a process's batch depends on the number of
    processes. Unbatched products are no slower on CPUs.
    """
    is_tall = matrix_HI.shape[0] > matrix_HI.shape[1]
    x = matrix_HI.mT if is_tall else matrix_HI
    x = x / (x.norm() + 1e-7)
    for a, b, c in QUINTICS:
        squared = x @ x.mT
        x = torch.addmm(x, torch.addmm(squared, squared, squared, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x
