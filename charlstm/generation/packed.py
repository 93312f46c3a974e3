"""Conversion of a quantized model to arrays for compiled code."""

import numpy as np

from charlstm.generation.kernels import LEVELS, TILE, PackedModel
from charlstm.generation.quantized import GATE_TABLE, GELU, TANH, QuantizedModel
from charlstm.text.utf8 import NEXT


def packed(model: QuantizedModel) -> PackedModel:
    """Return a quantized model as the arrays that compiled code reads."""
    sizes_M2 = np.array([matrix.values_NK.shape for matrix in model.matrices])
    num_rows, num_columns = -(-sizes_M2.max(0) // TILE) * TILE
    by_row_MPQ = np.zeros((len(sizes_M2), num_rows, num_columns), np.int16)
    scales_MP = np.zeros((len(sizes_M2), num_rows), np.float32)
    for number, (values_NK, scale_N) in enumerate(model.matrices):
        by_row_MPQ[number, : values_NK.shape[0], : values_NK.shape[1]] = values_NK
        scales_MP[number, : len(scale_N)] = scale_N

    first_VG, *upper = (layer.base_VG for layer in model.layers)
    no_layers = np.zeros((0, first_VG.shape[1]), np.float32)
    return PackedModel(
        by_row_MPQ=by_row_MPQ,
        by_column_MQP=np.ascontiguousarray(by_row_MPQ.transpose(0, 2, 1), np.float32),
        scales_MP=scales_MP,
        sizes_M2=sizes_M2,
        first_VG=first_VG,
        upper_LG=np.concatenate([no_layers, *upper]),
        bias_V=model.bias_V,
        gate_table=GATE_TABLE,
        tanh_levels=TANH * np.float32(LEVELS),  # exact, because the products need only 22 bits
        gelu_table=GELU,
        next_SV=NEXT,
    )
