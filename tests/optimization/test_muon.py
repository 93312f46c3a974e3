"""Muon: directions, lengths, and agreement with torch."""

from typing import Any

import pytest
import torch

from charlstm.optimization import muon
from charlstm.optimization.muon import SMALLEST, Muon, orthogonalize
from charlstm.training.processes import Processes


def matrix(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def muon_of(weights: list[torch.nn.Parameter], num_rows: int, **options: Any) -> Muon:
    return Muon(
        [{"params": weights, "num_rows": num_rows}], 0.05, peers=Processes("fp32"), **options
    )


@pytest.mark.parametrize("shape", [(4, 24, 24), (4, 24, 8), (2, 8, 24)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_directions_stay_and_lengths_become_one(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    left, values, right = torch.linalg.svd(matrix(*shape), full_matrices=False)
    assert values.max() / values.min() > 2
    result = torch.stack([orthogonalize(gate) for gate in matrix(*shape).to(dtype)]).double()
    middle = left.mT @ result @ right.mT
    singular = middle.diagonal(dim1=1, dim2=2)
    error, rest = (0.515, 1e-9) if dtype == torch.float64 else (0.55, 0.05)
    assert singular[values > SMALLEST * values.norm(dim=1, keepdim=True)].min() > 1 - error
    assert singular.max() < 1 + error
    assert (middle - torch.diag_embed(singular)).abs().max() < rest


@pytest.mark.parametrize("rank", [1, 2, 24])
def test_bf16_never_explodes(rank: int) -> None:
    """At the largest singular values, the polynomials are steep."""
    matrices = matrix(400, 24, rank) @ matrix(400, rank, 24)
    result = torch.stack([orthogonalize(one) for one in matrices.bfloat16()]).double()
    assert torch.linalg.matrix_norm(result, 2).max() < 1.55


def test_agrees_with_torch_on_one_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    # The coefficients of torch, from Jordan et al. 2024.
    monkeypatch.setattr(muon, "QUINTICS", ((3.4445, -4.7750, 2.0315),) * 5)
    ours, theirs = (torch.nn.Parameter(matrix(32, 16, dtype=torch.float32)) for _ in range(2))
    options: dict[str, Any] = {"momentum": 0.9, "weight_decay": 0.1}
    optimizers = (
        muon_of([ours], 32, dtype=torch.bfloat16, **options),
        torch.optim.Muon([theirs], 0.05, nesterov=True, adjust_lr_fn="original", **options),
    )
    for step in range(5):
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = matrix(32, 16, dtype=torch.float32).roll(step, 0)
            optimizer.step()
    assert (ours - matrix(32, 16, dtype=torch.float32)).abs().max() > 0.05
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)  # both multiply in bf16
