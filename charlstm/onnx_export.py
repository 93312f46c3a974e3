"""A trained model as an ONNX graph, the bytes of a file that other runtimes load without torch; and how exact it is.

The graph is built operator by operator: torch's exporter needs another package, and its names change with its version.
Shapes: B rows, T time steps, V vocabulary, E features of a character, L layers, H hidden units.
"""

import json

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.layers import stacked
from charlstm.model.model_folder import TrainedModel

OPSET = 20  # the first with Gelu; onnxruntime has it since 1.17 (January 2024)
IR_VERSION = 9  # of the same time; the newest, which is the default, is refused by older runtimes
SCHEMA = "1"  # of the names and shapes of inputs, outputs and metadata
ONNX_GATES = (
    "input_gate",
    "output_gate",
    "forget_gate",
    "candidate",
)  # ONNX stacks the weights in this order: "iofc"
NUM_COMPARED = 1_000  # characters


def onnx_bytes(trained: TrainedModel) -> bytes:
    """The bytes of the ONNX file. The same model gives the same bytes.

    Inputs are `ids` (B, T) in int64, `hidden` and `cell` (L, B, H), which are zero before the first character. Outputs
    are `logits` (B, T, V), `hidden_out` and `cell_out` (L, B, H). B and T are free. The metadata has `vocabulary`, a
    JSON list in which a character's index is its id, `model_sha256`, the model's name everywhere, and `schema`. A model
    of bytes has `unit`, "byte", and no `vocabulary`: an id is a byte of the text as UTF-8.
    """
    shape, graph, vocab = trained.model.shape, _Graph(), trained.vocab
    _add_model(graph, trained.model)
    value = helper.make_tensor_value_info
    state: list[int | str] = [shape.num_layers, "batch", shape.hidden_size]
    inputs = [value("ids", TensorProto.INT64, ["batch", "time"])]
    outputs = [value("logits", TensorProto.FLOAT, ["batch", "time", shape.vocab_size])]
    inputs += [value(name, TensorProto.FLOAT, state) for name in ("hidden", "cell")]
    outputs += [value(name, TensorProto.FLOAT, state) for name in ("hidden_out", "cell_out")]
    model = helper.make_model(
        helper.make_graph(graph.nodes, "charlstm", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="charlstm",
    )
    ids = (
        {"unit": "byte"}
        if vocab.unit == "byte"
        else {"vocabulary": json.dumps(list(vocab.characters))}
    )
    helper.set_model_props(model, {"model_sha256": trained.sha256, "schema": SCHEMA, **ids})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


@torch.inference_mode()
def largest_difference(trained: TrainedModel, file: bytes) -> float:
    """The largest difference of logits and states between onnxruntime and torch, after NUM_COMPARED random ids."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    ids_1T = torch.randint(trained.model.shape.vocab_size, (1, NUM_COMPARED), generator=generator)
    state = trained.model.zero_state(1)
    inputs = {"ids": ids_1T.numpy(), "hidden": state.hidden.numpy(), "cell": state.cell.numpy()}
    found = map(torch.from_numpy, session.run(["logits", "hidden_out", "cell_out"], inputs))
    logits_1TV, end = trained.model(ids_1T, state)
    return max(
        float((mine - theirs).abs().max())
        for mine, theirs in zip(found, (logits_1TV, *end), strict=True)
    )


class _Graph:
    """Nodes and constants, in the order in which they were added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: torch.Tensor | NDArray[np.generic]) -> str:
        array = values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else values
        self.constants.append(numpy_helper.from_array(array.copy(order="C"), name))
        return name

    def add(
        self, operator: str, inputs: list[str], *outputs: str, **attributes: int | list[int]
    ) -> str:
        """Add a node, named after its first output; that name."""
        self.nodes.append(helper.make_node(operator, inputs, outputs, outputs[0], **attributes))  # type: ignore[arg-type]  # it has options of other types, too
        return outputs[0]

    def product(self, name: str, x: str, weight: torch.Tensor) -> str:
        return self.add(
            "MatMul", [x, self.constant(f"{name}.weight", weight.t())], f"{name}.product"
        )


def _add_model(graph: _Graph, model: CharLSTM) -> None:
    """Add all from `ids` to `logits`, time before rows in between, as in `CharLSTM.forward` and in ONNX's LSTM."""
    weights, shape = model.state_dict(), model.shape
    ids = graph.add("Transpose", ["ids"], "ids_by_time", perm=[1, 0])
    if shape.embedding_size:
        x = graph.add(
            "Gather",
            [graph.constant("embedding.weight", weights["embedding.weight"]), ids],
            "embedding",
        )
    else:
        depth = graph.constant("vocab_size", np.array(shape.vocab_size, np.int64))
        x = graph.add(
            "OneHot",
            [ids, depth, graph.constant("off_on", np.array([0, 1], np.float32))],
            "one_hot",
        )
    layers = range(shape.num_layers)
    for state in ("hidden", "cell"):
        graph.add(
            "Split",
            [state],
            *(f"{state}.{layer}" for layer in layers),
            axis=0,
            num_outputs=shape.num_layers,
        )
    axis = graph.constant("directions", np.array([1], np.int64))
    for layer in layers:
        name, bias = f"layers.{layer}", stacked(weights, layer, "from_input.bias", ONNX_GATES)
        inputs = [
            graph.constant(
                f"{name}.from_input", stacked(weights, layer, "from_input.weight", ONNX_GATES)[None]
            ),
            graph.constant(
                f"{name}.from_hidden",
                stacked(weights, layer, "from_hidden.weight", ONNX_GATES)[None],
            ),
            graph.constant(
                f"{name}.bias", torch.cat([bias, torch.zeros_like(bias)])[None]
            ),  # ONNX adds a second one
        ]
        inputs = [x, *inputs, "", f"hidden.{layer}", f"cell.{layer}"]
        outputs = [f"{name}.directions", f"hidden_out.{layer}", f"cell_out.{layer}"]
        x = graph.add("LSTM", inputs, *outputs, hidden_size=shape.hidden_size)
        x = graph.add("Squeeze", [x, axis], name)  # from (T, 1, B, H)
    for state in ("hidden_out", "cell_out"):
        graph.add("Concat", [f"{state}.{layer}" for layer in layers], state, axis=0)
    if shape.feed_forward_size:
        inner = graph.add(
            "Gelu", [graph.product("up", x, weights["feed_forward.up.weight"])], "gelu"
        )
        x = graph.add(
            "Add",
            [x, graph.product("down", inner, weights["feed_forward.down.weight"])],
            "feed_forward",
        )
    product = graph.product("head", x, weights["head.weight"])
    logits = graph.add("Add", [product, graph.constant("head.bias", weights["head.bias"])], "head")
    graph.add("Transpose", [logits], "logits", perm=[1, 0, 2])
