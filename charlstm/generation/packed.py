"""A quantized model as arrays for compiled code."""

import numpy as np

from charlstm.generation.kernels import FRACTIONS, LEVELS, POWERS, TILE, PackedModel
from charlstm.generation.quantized import GATE_TABLE, GELU, TANH, QuantizedModel
from charlstm.text.utf8 import NEXT


def packed(model: QuantizedModel) -> PackedModel:
    """The arrays that compiled code reads."""
    sizes_M2 = np.array([matrix.values_NK.shape for matrix in model.matrices])
    num_rows, num_columns = -(-sizes_M2.max(0) // TILE) * TILE
    by_row_MPQ = np.zeros((len(sizes_M2), num_rows, num_columns), np.int16)
    scales_MP = np.zeros((len(sizes_M2), num_rows), np.float32)
    for number, (values_NK, scale_N) in enumerate(model.matrices):
        by_row_MPQ[number, : values_NK.shape[0], : values_NK.shape[1]] = values_NK
        scales_MP[number, : len(scale_N)] = scale_N
    by_column_MQP = np.ascontiguousarray(by_row_MPQ.transpose(0, 2, 1), np.float32)
    first_VG, *upper = (layer.base_VG for layer in model.layers)
    upper_LG = np.concatenate([np.zeros((0, first_VG.shape[1]), np.float32), *upper])
    has_block, tanh_levels = model.up is not None, TANH * np.float32(LEVELS)  # exact: 22 bits
    weights = (
        by_row_MPQ,
        by_column_MQP,
        scales_MP,
        sizes_M2,
        first_VG,
        upper_LG,
        model.bias_V,
        has_block,
    )
    return PackedModel(*weights, GATE_TABLE, tanh_levels, GELU, FRACTIONS, POWERS, NEXT)
