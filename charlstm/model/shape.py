"""The sizes of a model, and the names of its weights and files.

This module does not import torch, so importing the module is fast.
"""

import math
from typing import Literal, NamedTuple

Implementation = Literal["gates", "fused"]
Initialization = Literal["orthogonal", "uniform"]

# Names of the files in a model folder, besides the vocabulary file.
WEIGHTS = "model.safetensors"
CONFIG = "config.json"

# Names of the model's weights.
EMBEDDING = "embedding.weight"
HEAD = "head.weight"
# The order in which nn.LSTM stacks the gates.
# `generation/quantized.py` and `onnx_export.py` stack the gates in other orders.
GATES = ("input_gate", "forget_gate", "candidate", "output_gate")


def gate_weight_names(part: str) -> list[str]:
    """Return the full names of the weight `part` (such as `from_input.weight`) in all gates."""
    return [f"cell.{gate}.{part}" for gate in GATES]


class ModelShape(NamedTuple):
    """The sizes of a model, which determine the names and shapes of its weights.

    If `embedding_size` is 0, there is no embedding and characters are one-hot. `feed_forward_size`
    is the number of inner features of the feed-forward block; 0 means no block.
    """

    vocab_size: int
    embedding_size: int
    hidden_size: int
    num_layers: int
    feed_forward_size: int = 0  # older models have no feed-forward block

    @property
    def input_size(self) -> int:
        """Number of features per character that the first layer receives."""
        return self.embedding_size or self.vocab_size

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of all weights in the model file."""
        hidden = self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (self.vocab_size, self.input_size)}
        for layer in range(self.num_layers):
            for gate in GATES:
                name = f"layers.{layer}.cell.{gate}"
                shapes[f"{name}.from_input.weight"] = (hidden, hidden if layer else self.input_size)
                shapes[f"{name}.from_input.bias"] = (hidden,)
                shapes[f"{name}.from_hidden.weight"] = (hidden, hidden)
        if self.feed_forward_size:
            shapes["feed_forward.up.weight"] = (self.feed_forward_size, hidden)
            shapes["feed_forward.down.weight"] = (hidden, self.feed_forward_size)
        return shapes | {HEAD: (self.vocab_size, hidden), "head.bias": (self.vocab_size,)}

    @property
    def num_parameters(self) -> int:
        """Number of trained weights, excluding a one-hot embedding, which is not trained."""
        num_fixed = 0 if self.embedding_size else self.vocab_size**2
        return sum(map(math.prod, self.weights.values())) - num_fixed

    @property
    def num_multiplied(self) -> int:
        """Number of weights in matrices except the embedding. Each is used once per character."""
        matrices = [shape for name, shape in self.weights.items() if name != EMBEDDING]
        return sum(math.prod(shape) for shape in matrices if len(shape) == 2)
