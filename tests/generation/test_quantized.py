"""The model in 8-bit integers is close to the model, and portable."""

import math

import numpy as np
import pytest
import torch

from charlstm.generation.kernels import FRACTIONS, TABLE_LEN
from charlstm.generation.quantized import ARGUMENTS, GATE_TABLE, GELU, TANH, quantize
from charlstm.generation.stepper import Stepper, packed
from charlstm.model.shape import Implementation, ModelShape
from tests.support.compiled_parts import predict
from tests.support.models import random_model

SHAPES = [ModelShape(11, 6, 24, 1, 0), ModelShape(11, 6, 24, 3, 40), ModelShape(11, 0, 33, 2, 0)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("implementation", ["gates", "fused"])
def test_it_is_close_to_the_model(shape: ModelShape, implementation: Implementation) -> None:
    model = random_model(shape, implementation, factor=2)
    stepper = Stepper(quantize(model))
    ids_RT = torch.randint(0, 11, (3, 200))
    logits_RTV, state = model(ids_RT)
    read = stepper.read(ids_RT.numpy(), stepper.zero_state(3))
    found_RV = torch.from_numpy(predict(packed(quantize(model)), read.hidden_RLH)).log_softmax(1)
    exact_RV = logits_RTV[:, -1].log_softmax(1)
    assert (found_RV - exact_RV).abs().max() < 0.05 < exact_RV.std()
    assert (read.dequantized().cell - state.cell).abs().max() < 0.05


def test_tables_are_far_from_where_rounding_would_decide() -> None:
    """Another library's e^x may differ in the last of its 53 bits. That changes no entry."""
    sigmoid = 1 / (1 + np.exp(-ARGUMENTS))
    gelu = np.array([x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in ARGUMENTS])
    powers = np.exp2(np.arange(4096) / 4096)
    tables = {"sigmoid": GATE_TABLE[:TABLE_LEN], "tanh": TANH, "gelu": GELU}
    exact = {"sigmoid": sigmoid, "tanh": np.tanh(ARGUMENTS), "gelu": gelu}
    for name, found in tables.items():
        assert np.abs(found - exact[name]).max() < 2**-16
    assert GATE_TABLE[TABLE_LEN:].tolist() == TANH.tolist()
    assert np.abs(FRACTIONS - powers).max() < 2**-31
    for values, places in (*((one, 15) for one in exact.values()), (powers, 30)):
        scaled = values * 2**places + 0.5
        distance = np.abs(scaled - np.round(scaled))
        assert distance.min() > 1e-5
