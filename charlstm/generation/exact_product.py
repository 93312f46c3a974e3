"""Products of 8-bit integers in torch, exact on every processor.

Shapes: R rows, K columns and N rows of a matrix.
"""

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
        is_exact = has_exact_integer_product(values_KN)
        return cls(values_KN if is_exact else values_KN.float(), torch.from_numpy(matrix.scale_N))

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


def has_exact_integer_product(values_KN: Tensor) -> bool:
    """Whether torch multiplies by this matrix exactly here: tried with the largest values, in one row and in several.

    Older processors add in 16 bits, which saturates, and torch 2.13 is wrong for a matrix of one column (K = 1).
    """
    num_columns = len(values_KN)
    extremes = torch.tensor([1, -1], dtype=torch.int8).mul(LEVELS).repeat(num_columns)[:num_columns]
    signs_RK = torch.stack([extremes, extremes.abs(), *(values_KN[:, :30].t().sign() * LEVELS)])
    exact_RN = float_product(signs_RK, values_KN)
    try:
        return all(torch.equal(integer_product(signs_RK[:rows], values_KN), exact_RN[:rows]) for rows in (1, 32))
    except (AttributeError, RuntimeError):
        return False
