"""The ONNX file computes what torch computes, for any number of rows and characters."""

import numpy as np
import onnxruntime
import pytest
import torch

from charlstm import onnx_export
from charlstm.model.model_folder import TrainedModel
from charlstm.model.shape import GATES, ModelShape
from charlstm.onnx_export import largest_difference, onnx_bytes
from tests.support.exports import SMALL, VOCAB, make


def difference(trained: TrainedModel, ids_BT: torch.Tensor, chunk: int) -> float:
    """Return the largest difference when the file reads `chunk` characters at a time."""
    session = onnxruntime.InferenceSession(onnx_bytes(trained), providers=["CPUExecutionProvider"])
    shape = trained.model.shape
    hidden = cell = np.zeros((shape.num_layers, len(ids_BT), shape.hidden_size), np.float32)
    logits = []
    for part_BT in torch.split(ids_BT, chunk, dim=1):
        inputs = {"ids": part_BT.numpy(), "hidden": hidden, "cell": cell}
        part_BTV, hidden, cell = session.run(None, inputs)
        logits.append(part_BTV)
    expected_BTV, state = trained.model(ids_BT)
    assert expected_BTV.std() > 0.1
    pairs = [(np.concatenate(logits, 1), expected_BTV), (hidden, state.hidden), (cell, state.cell)]
    return max(float(np.abs(mine - theirs.numpy()).max()) for mine, theirs in pairs)


def random_ids(num_rows: int, num_chars: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, len(VOCAB), (num_rows, num_chars), generator=generator)


@pytest.mark.parametrize("shape", SMALL, ids=lambda shape: "-".join(map(str, shape)))
@pytest.mark.parametrize(("num_rows", "chunk"), [(1, 1), (3, 50)])
def test_logits_and_states_are_those_of_torch(shape: ModelShape, num_rows: int, chunk: int) -> None:
    assert difference(make(shape), random_ids(num_rows, 120), chunk) < 1e-5


def test_the_check_notices_another_order_of_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = make(SMALL[-1])
    assert largest_difference(trained, onnx_bytes(trained)) < 1e-5
    monkeypatch.setattr(onnx_export, "ONNX_GATES", GATES)
    assert largest_difference(trained, onnx_bytes(trained)) > 0.1


def test_the_same_model_gives_the_same_bytes() -> None:
    gates = make(SMALL[-1], "gates")
    fused = make(SMALL[-1], "fused")
    fused.model.load_state_dict(gates.model.state_dict())
    assert onnx_bytes(gates) == onnx_bytes(fused)
