import json

import numpy as np
import onnx
import pytest
import torch
from exports import SMALL, VOCAB, make

from charlstm import onnx_export
from charlstm.evaluation.protocols import stateful
from charlstm.model.model_folder import TrainedModel
from charlstm.model.shape import GATES, ModelShape
from charlstm.onnx_export import OnnxModel, compare, onnx_bytes
from charlstm.text.encoded import EncodedText

DEFAULT = ModelShape(len(VOCAB), 128, 320, 1, 320)
TOLERANCE = 1e-4


def random_ids(num_rows: int, num_chars: int) -> torch.Tensor:
    return torch.randint(0, len(VOCAB), (num_rows, num_chars), generator=torch.Generator().manual_seed(1))


def largest_difference(trained: TrainedModel, file: bytes, ids_BT: torch.Tensor, chunk: int) -> float:
    """Of logits and states, when `file` reads `chunk` characters at a time, and torch all at once."""
    exported = OnnxModel(file, trained.model.shape)
    expected_BTV, expected_end = trained.model(ids_BT)
    state, logits = exported.zero_state(len(ids_BT)), []
    for part_BT in torch.split(ids_BT, chunk, dim=1):
        logits_BTV, state = exported(part_BT.contiguous(), state)
        logits.append(logits_BTV)
    pairs = [(torch.cat(logits, dim=1), expected_BTV), *zip(state, expected_end, strict=True)]
    return max(float((mine - theirs).abs().max()) for mine, theirs in pairs)


@pytest.mark.parametrize("shape", SMALL, ids=lambda shape: "-".join(map(str, shape)))
@pytest.mark.parametrize("num_rows", [1, 3])
@pytest.mark.parametrize("chunk", [1, 50])
def test_logits_and_states_are_those_of_torch(shape: ModelShape, num_rows: int, chunk: int) -> None:
    trained, ids_BT = make(shape), random_ids(num_rows, 120)
    assert trained.model(ids_BT)[0].std() > 0.5
    assert largest_difference(trained, onnx_bytes(trained), ids_BT, chunk) < 1e-5


@pytest.mark.parametrize(("num_rows", "chunk"), [(1, 1), (3, 50)])
def test_the_default_model_stays_exact_over_a_thousand_characters(num_rows: int, chunk: int) -> None:
    trained = make(DEFAULT, factor=1.5)
    assert largest_difference(trained, onnx_bytes(trained), random_ids(num_rows, 1000), chunk) < TOLERANCE


def test_another_order_of_gates_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "ONNX_GATES", GATES)
    trained = make(SMALL[-1])
    assert largest_difference(trained, onnx_bytes(trained), random_ids(1, 20), 20) > 0.1


def test_the_same_model_gives_the_same_bytes() -> None:
    gates, fused = make(SMALL[-1], "gates"), make(SMALL[-1], "fused")
    fused.model.load_state_dict(gates.model.state_dict())
    assert onnx_bytes(gates) == onnx_bytes(fused)


def test_the_file_says_what_it_takes_and_gives_and_knows_its_vocabulary() -> None:
    model = onnx.load_model_from_string(onnx_bytes(make(SMALL[-1])))

    def sizes(values: list[onnx.ValueInfoProto]) -> dict[str, list[int | str]]:
        dims = {one.name: one.type.tensor_type.shape.dim for one in values}
        return {name: [dim.dim_param or dim.dim_value for dim in shape] for name, shape in dims.items()}

    state = [3, "batch", 7]
    assert sizes([*model.graph.input]) == {"ids": ["batch", "time"], "hidden": state, "cell": state}
    assert sizes([*model.graph.output]) == {
        "logits": ["batch", "time", len(VOCAB)],
        "hidden_out": state,
        "cell_out": state,
    }
    metadata = {one.key: one.value for one in model.metadata_props}
    assert "".join(json.loads(metadata.pop("vocabulary"))) == VOCAB.characters
    assert metadata == {"model_sha256": "0" * 64, "schema": "1"}
    assert (model.producer_name, model.ir_version) == ("charlstm", 9)


def test_losses_and_logits_are_compared_with_torch() -> None:
    trained, ids = make(DEFAULT, factor=1.5), random_ids(1, 1500)[0].numpy().astype(np.uint8)
    expected, found, difference = compare(trained, onnx_bytes(trained), ids)
    assert expected == stateful(trained.model, EncodedText(ids))
    assert found.nats_per_char == pytest.approx(expected.nats_per_char, abs=1e-6)
    assert 0 < difference < TOLERANCE
