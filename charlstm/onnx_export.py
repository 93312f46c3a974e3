"""Export of a trained model to ONNX, for runtimes without torch, with a check of its accuracy.

The graph is built operator by operator, because torch's exporter needs another package and changes
its names from version to version.

Shapes: B rows, T time steps, V vocabulary, L layers, H hidden units.
"""

import json

import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.layers import stacked
from charlstm.model.model_folder import TrainedModel

OPSET = 20  # the first opset with Gelu, supported since onnxruntime 1.17 (January 2024)
IR_VERSION = 9  # released with opset 20; older runtimes would reject the default of `onnx`
SCHEMA = "1"  # version of the names and shapes of inputs, outputs and metadata
NUM_COMPARED = 1_000  # characters
# ONNX stacks the gates in the order input, output, forget, cell.
ONNX_GATES = ("input_gate", "output_gate", "forget_gate", "candidate")


def onnx_bytes(trained: TrainedModel) -> bytes:
    """Return a model as the bytes of an ONNX file. The same model always gives the same bytes.

    Inputs are `ids` (B, T) in int64, and `hidden` and `cell` (L, B, H), which are zero before the
    first character. Outputs are `logits` (B, T, V), and `hidden_out` and `cell_out` (L, B, H). B
    and T may have any value. The metadata has `model_sha256`, `schema`, and `vocabulary`, a JSON
    list in which a character's index is its id. A byte model has `unit`, with the value "byte", and
    no `vocabulary`: its ids are the bytes of the text in UTF-8.
    """
    shape = trained.model.shape
    vocab = trained.vocab
    graph = _Graph()
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
    metadata = {"model_sha256": trained.sha256, "schema": SCHEMA}
    if vocab.unit == "byte":
        metadata["unit"] = "byte"
    else:
        metadata["vocabulary"] = json.dumps(list(vocab.characters))
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


@torch.inference_mode()
def largest_difference(trained: TrainedModel, file: bytes) -> float:
    """Return the largest difference between onnxruntime and torch in any logit or state.

    Both runtimes read the same NUM_COMPARED random ids.
    """
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    ids_1T = torch.randint(trained.model.shape.vocab_size, (1, NUM_COMPARED), generator=generator)
    state = trained.model.zero_state(1)
    inputs = {"ids": ids_1T.numpy(), "hidden": state.hidden.numpy(), "cell": state.cell.numpy()}
    found = map(torch.from_numpy, session.run(["logits", "hidden_out", "cell_out"], inputs))
    logits_1TV, end = trained.model(ids_1T, state)
    pairs = zip(found, (logits_1TV, *end), strict=True)
    return max(float((onnx_values - values).abs().max()) for onnx_values, values in pairs)


class _Graph:
    """An ONNX graph's nodes and constants, in the order in which they were added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: torch.Tensor) -> str:
        """Add a constant to the graph. Return the name of the constant."""
        self.constants.append(numpy_helper.from_array(values.contiguous().numpy(), name))
        return name

    def add(
        self, operator: str, inputs: list[str], *outputs: str, **attributes: int | list[int]
    ) -> str:
        """Add a node, which is named after its first output. Return the name."""
        name = outputs[0]
        node = helper.make_node(operator, inputs, outputs, name, **attributes)  # type: ignore
        self.nodes.append(node)
        return name

    def product(self, name: str, x: str, weight: torch.Tensor) -> str:
        """Add the matrix product `x @ weight.T` to the graph. Return the product's name."""
        transposed = self.constant(f"{name}.weight", weight.t())
        return self.add("MatMul", [x, transposed], f"{name}.product")


def _add_model(graph: _Graph, model: CharLSTM) -> None:
    """Add all nodes between `ids` and `logits`. Time is the first dimension, as in `CharLSTM`."""
    weights = model.state_dict()
    shape = model.shape
    ids = graph.add("Transpose", ["ids"], "ids_by_time", perm=[1, 0])
    if shape.embedding_size:
        table = graph.constant("embedding.weight", weights["embedding.weight"])
        x = graph.add("Gather", [table, ids], "embedding")
    else:
        depth = graph.constant("vocab_size", torch.tensor(shape.vocab_size))
        off_on = graph.constant("off_on", torch.tensor([0.0, 1.0]))
        x = graph.add("OneHot", [ids, depth, off_on], "one_hot")
    layers = range(shape.num_layers)
    for state in ("hidden", "cell"):
        names = [f"{state}.{layer}" for layer in layers]
        graph.add("Split", [state], *names, axis=0, num_outputs=shape.num_layers)
    axis = graph.constant("directions", torch.tensor([1]))

    for layer in layers:
        name = f"layers.{layer}"
        bias = stacked(weights, layer, "from_input.bias", ONNX_GATES)
        parts = {
            "from_input": stacked(weights, layer, "from_input.weight", ONNX_GATES),
            "from_hidden": stacked(weights, layer, "from_hidden.weight", ONNX_GATES),
            "bias": torch.cat([bias, torch.zeros_like(bias)]),  # ONNX has two biases
        }
        constants = [graph.constant(f"{name}.{part}", parts[part][None]) for part in parts]
        inputs = [x, *constants, "", f"hidden.{layer}", f"cell.{layer}"]
        outputs = [f"{name}.directions", f"hidden_out.{layer}", f"cell_out.{layer}"]
        x = graph.add("LSTM", inputs, *outputs, hidden_size=shape.hidden_size)
        x = graph.add("Squeeze", [x, axis], name)  # from (T, 1, B, H)

    for state in ("hidden_out", "cell_out"):
        graph.add("Concat", [f"{state}.{layer}" for layer in layers], state, axis=0)
    if shape.feed_forward_size:
        up = graph.product("up", x, weights["feed_forward.up.weight"])
        inner = graph.add("Gelu", [up], "gelu")
        down = graph.product("down", inner, weights["feed_forward.down.weight"])
        x = graph.add("Add", [x, down], "feed_forward")
    product = graph.product("head", x, weights["head.weight"])
    logits = graph.add("Add", [product, graph.constant("head.bias", weights["head.bias"])], "head")
    graph.add("Transpose", [logits], "logits", perm=[1, 0, 2])
