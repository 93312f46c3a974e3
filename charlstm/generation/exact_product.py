"""Products of 8-bit integers in torch, exact on every processor.

Shapes: R rows, K columns and N rows of a matrix.
"""

from functools import cache
from typing import Final, NamedTuple

import torch
from torch import Tensor

from charlstm.generation.quantized import LEVELS, Matrix

MAX_EXACT_COLUMNS: Final = 2**24 // LEVELS**2  # float32 has all whole numbers up to 2^24


class Columns(NamedTuple):
    """A matrix for products from the left: (K, N), and its scale (N). int8, or float32 where torch has no product."""

    values_KN: Tensor
    scale_N: Tensor

    @classmethod
    def of(cls, matrix: Matrix) -> "Columns":
        """The same, transposed."""
        values_KN = torch.from_numpy(matrix.values_NK).t()
        return cls(values_KN if has_integer_product() else values_KN.float(), torch.from_numpy(matrix.scale_N))

    def times(self, rows_RK: Tensor, factor_R1: Tensor | None = None) -> Tensor:
        """The product with `rows_RK` (int8), times the scale, times a factor for each row: (R, N), float32."""
        scale = self.scale_N if factor_R1 is None else self.scale_N * factor_R1
        multiply = integer_product if self.values_KN.dtype == torch.int8 else float_product
        return multiply(rows_RK, self.values_KN) * scale


def integer_product(rows_RK: Tensor, columns_KN: Tensor) -> Tensor:
    """By the processor's instructions for integers: (R, N), int32."""
    return torch._int_mm(rows_RK, columns_KN)


def float_product(rows_RK: Tensor, columns_KN: Tensor) -> Tensor:
    """Of floats that hold whole numbers, exact in any order as long as no sum needs more than 24 bits: int32."""
    pieces = zip(torch.split(rows_RK, MAX_EXACT_COLUMNS, 1), torch.split(columns_KN, MAX_EXACT_COLUMNS, 0), strict=True)
    products = [(rows.float() @ columns.float()).to(torch.int32) for rows, columns in pieces]
    return torch.stack(products).sum(0, dtype=torch.int32)


@cache
def has_integer_product() -> bool:
    """Whether torch has that product here, and it is exact: older processors add in 16 bits, which saturates."""
    extremes = torch.tensor([[1, 1], [-1, -1], [1, -1]], dtype=torch.int8).mul(LEVELS).repeat(16, 128)
    try:
        return torch.equal(integer_product(extremes, extremes.t()), float_product(extremes, extremes.t()))
    except (AttributeError, RuntimeError):
        return False
