"""The sizes of a model, with the names of its weights and files. Importing it is fast: no torch."""

import math
from typing import NamedTuple

# A training step with more than MAX_LOGITS logits computes LOGITS_AT_ONCE of them at a time, and
# again in the backward pass. The head takes a fifth to a third longer, but its memory grows neither
# with the vocabulary nor with the batch.
MAX_LOGITS = 2**24
LOGITS_AT_ONCE = 2**22

# Files of a model folder, next to the vocabulary.
WEIGHTS = "model.safetensors"
CONFIG = "config.json"

# Names of weights.
EMBEDDING = "embedding.weight"
HEAD = "head.weight"
# The order of nn.LSTM for stacked gates. `generation/quantized.py` and `onnx_export.py` have other
# orders.
GATES = ("input_gate", "forget_gate", "candidate", "output_gate")


def gate_weight_names(part: str) -> list[str]:
    """Return the names of one part (e.g. `from_input.weight`) of a layer's gates, as in GATES."""
    return [f"cell.{gate}.{part}" for gate in GATES]


class ModelShape(NamedTuple):
    """The sizes that decide which weights a model has, independent of its implementation.

    `embedding_size` 0 means no embedding: characters are one-hot. `feed_forward_size` is the number
    of inner features of the feed-forward block; 0 means no block.
    """

    vocab_size: int
    embedding_size: int
    hidden_size: int
    num_layers: int
    feed_forward_size: int = 0  # older models have no feed-forward block

    @property
    def input_size(self) -> int:
        """Number of features of a character, the input of the first layer."""
        return self.embedding_size or self.vocab_size

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights of a `CharLSTM` on disk."""
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
        """Number of trained weights. A one-hot embedding is not trained."""
        num_fixed = 0 if self.embedding_size else self.vocab_size**2
        return sum(map(math.prod, self.weights.values())) - num_fixed

    @property
    def num_multiplied(self) -> int:
        """Number of weights that multiply every character: all matrices but the embedding."""
        matrices = [shape for name, shape in self.weights.items() if name != EMBEDDING]
        return sum(math.prod(shape) for shape in matrices if len(shape) == 2)
