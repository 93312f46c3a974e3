"""A trained model as an ONNX graph: the bytes of a file that other runtimes load, without torch; and how exact it is.

The graph is built operator by operator, since ONNX has an LSTM of its own. `torch.onnx.export` would trace Python, and
its names change with the version of torch. Here, a model of one layer is 11 nodes, and names stay.
Shapes: B rows, T time steps, V vocabulary, E features of a character, L layers, H hidden units.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from charlstm.evaluation.protocols import stateful
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.model.layers import stacked
from charlstm.model.loss import LossSum
from charlstm.model.model_folder import TrainedModel
from charlstm.model.shape import ModelShape
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Ids

OPSET = 20  # the first with Gelu; onnxruntime has it since 1.17 (January 2024)
IR_VERSION = 9  # of the same time; the newest, which is the default, is refused by older runtimes
SCHEMA = "1"  # of the names and shapes of inputs, outputs and metadata
STATE = ("hidden", "cell")
ONNX_GATES = ("input_gate", "output_gate", "forget_gate", "candidate")  # ONNX stacks the weights in this order: "iofc"


def onnx_bytes(trained: TrainedModel) -> bytes:
    """The bytes of the ONNX file. The same model gives the same bytes.

    Inputs are `ids` (B, T) in int64, `hidden` and `cell` (L, B, H), which are zero before the first character. Outputs
    are `logits` (B, T, V), `hidden_out` and `cell_out` (L, B, H). B and T are free. The metadata has `vocabulary`, a
    JSON list in which a character's index is its id, `model_sha256`, the model's name everywhere, and `schema`. A model
    of bytes has `unit`, "byte", and no `vocabulary`: an id is a byte of the text as UTF-8.
    """
    shape, graph = trained.model.shape, _Graph()
    _add_model(graph, trained.model)
    state: list[int | str] = [shape.num_layers, "batch", shape.hidden_size]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "time"])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "time", shape.vocab_size])]
    for name in STATE:
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, state))
        outputs.append(helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, state))
    model = helper.make_model(
        helper.make_graph(graph.nodes, "charlstm", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="charlstm",
    )
    vocab = trained.vocab
    ids = {"unit": "byte"} if vocab.unit == "byte" else {"vocabulary": json.dumps(list(vocab.characters))}
    helper.set_model_props(model, {"model_sha256": trained.sha256, "schema": SCHEMA, **ids})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


class _Graph:
    """Nodes and constants, in the order in which they were added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: Tensor | NDArray[np.generic]) -> str:
        """Add a constant; its name."""
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        self.constants.append(numpy_helper.from_array(array.copy(order="C"), name))
        return name

    def add(self, operator: str, inputs: Sequence[str], *outputs: str, **attributes: int | Sequence[int]) -> str:
        """Add a node, named after its first output; that name."""
        self.nodes.append(helper.make_node(operator, inputs, outputs, outputs[0], **attributes))  # type: ignore[arg-type]  # it has options of other types, too
        return outputs[0]


def _add_model(graph: _Graph, model: CharLSTM) -> None:
    """Add all from `ids` to `logits`, time before rows in between, as in `CharLSTM.forward` and in ONNX's LSTM."""
    weights, shape = model.state_dict(), model.shape
    x = _add_characters(graph, weights, shape)
    starts = zip(*(_split_state(graph, name, shape.num_layers) for name in STATE), strict=True)
    ends = list(zip(*(_part_names(f"{name}_out", shape.num_layers) for name in STATE), strict=True))
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        x = _add_layer(graph, weights, number, x, start, end)
    if shape.num_layers > 1:
        for name, parts in zip(STATE, zip(*ends, strict=True), strict=True):
            graph.add("Concat", parts, f"{name}_out", axis=0)
    if shape.feed_forward_size:
        inner = graph.add("Gelu", [_add_product(graph, weights, "feed_forward.up", x)], "feed_forward.gelu")
        added = _add_product(graph, weights, "feed_forward.down", inner)
        x = graph.add("Add", [x, added], "feed_forward")
    product = _add_product(graph, weights, "head", x)
    logits = graph.add("Add", [product, graph.constant("head.bias", weights["head.bias"])], "head")
    graph.add("Transpose", [logits], "logits", perm=[1, 0, 2])


def _add_characters(graph: _Graph, weights: Mapping[str, Tensor], shape: ModelShape) -> str:
    """Add the features (T, B, E) of `ids` (B, T); their name."""
    ids = graph.add("Transpose", ["ids"], "ids_by_time", perm=[1, 0])
    if shape.embedding_size == 0:
        depth = graph.constant("vocab_size", np.array(shape.vocab_size, np.int64))
        return graph.add("OneHot", [ids, depth, graph.constant("off_on", np.array([0, 1], np.float32))], "one_hot")
    return graph.add("Gather", [graph.constant("embedding.weight", weights["embedding.weight"]), ids], "embedding")


def _add_layer(
    graph: _Graph, weights: Mapping[str, Tensor], number: int, x: str, start: Sequence[str], end: Sequence[str]
) -> str:
    """Hidden states (T, B, H). `start` and `end` name the states (1, B, H) before the first step and after the last."""
    name, bias = f"layers.{number}", stacked(weights, number, "from_input.bias", ONNX_GATES)
    from_hidden = stacked(weights, number, "from_hidden.weight", ONNX_GATES)
    inputs = [
        graph.constant(f"{name}.from_input", stacked(weights, number, "from_input.weight", ONNX_GATES)[None]),
        graph.constant(f"{name}.from_hidden", from_hidden[None]),
        graph.constant(f"{name}.bias", torch.cat([bias, torch.zeros_like(bias)])[None]),  # ONNX adds a second one
    ]
    x = graph.add("LSTM", [x, *inputs, "", *start], f"{name}.directions", *end, hidden_size=from_hidden.shape[1])
    return graph.add("Squeeze", [x, graph.constant(f"{name}.axis", np.array([1], np.int64))], name)  # from (T, 1, B, H)


def _add_product(graph: _Graph, weights: Mapping[str, Tensor], name: str, x: str) -> str:
    matrix = graph.constant(f"{name}.weight", weights[f"{name}.weight"].t())
    return graph.add("MatMul", [x, matrix], f"{name}.product")


def _split_state(graph: _Graph, name: str, num_layers: int) -> list[str]:
    """The names of the layers' states (1, B, H), cut out of the input (L, B, H)."""
    parts = _part_names(name, num_layers)
    if num_layers > 1:
        graph.add("Split", [name], *parts, axis=0, num_outputs=num_layers)
    return parts


def _part_names(name: str, num_layers: int) -> list[str]:
    """Names of a state's layers; of one layer, the state is the whole: a node for nothing would cost 2 % of a step."""
    return [name] if num_layers == 1 else [f"{name}.{index}" for index in range(num_layers)]


# An exported model under onnxruntime, beside torch.

NUM_COMPARED = 1_000  # characters


class OnnxModel:
    """The file of `onnx_bytes`, of a model with this shape, on one CPU thread."""

    def __init__(self, file: bytes, shape: ModelShape) -> None:
        import onnxruntime  # a plain export needs onnx alone

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.shape = shape

    def zero_state(self, num_rows: int) -> LSTMState:
        """The state (L, B, H) before anything was read."""
        zeros_LBH = torch.zeros(self.shape.num_layers, num_rows, self.shape.hidden_size)
        return LSTMState(zeros_LBH, zeros_LBH)

    def __call__(self, ids_BT: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """Logits (B, T, V) of the character after each of `ids_BT` (int64), and the state (L, B, H) after the last."""
        inputs = {"ids": ids_BT.numpy(), "hidden": state.hidden.numpy(), "cell": state.cell.numpy()}
        logits_BTV, *end = map(torch.from_numpy, self._session.run(["logits", "hidden_out", "cell_out"], inputs))
        return logits_BTV, LSTMState(*end)


@torch.inference_mode()
def compare(trained: TrainedModel, file: bytes, ids: Ids) -> tuple[LossSum, LossSum, float]:
    """The loss `stateful` of a text of two ids or more, under torch and exported; the largest difference of logits."""
    exported, text = OnnxModel(file, trained.model.shape), EncodedText(ids, trained.vocab.unit)
    beginning_1T = torch.from_numpy(ids[:NUM_COMPARED].astype(np.int64))[None]
    found_1TV, expected_1TV = (model(beginning_1T, model.zero_state(1))[0] for model in (exported, trained.model))
    difference = (found_1TV - expected_1TV).abs().max().item()
    return stateful(trained.model, text), stateful(exported, text), difference
