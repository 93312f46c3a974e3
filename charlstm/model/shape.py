"""The sizes of a model, the names of its weights and of its files, without torch: importing this costs no time."""

import math
from typing import NamedTuple

# Numbers. A step with more logits than MAX_LOGITS computes them in pieces, and again in its backward pass: a fifth to a
# third more time for the head, and memory that grows neither with the alphabet nor with the batch.
MAX_LOGITS, LOGITS_AT_ONCE = 2**24, 2**22

WEIGHTS, CONFIG = "model.safetensors", "config.json"  # next to the vocabulary, in a model folder

EMBEDDING, HEAD = "embedding.weight", "head.weight"
# Weights of several gates are stacked in this order, which is nn.LSTM's. Only `generation/quantized.py` has its own.
GATES = ("input_gate", "forget_gate", "candidate", "output_gate")


def gate_weight_names(part: str) -> list[str]:
    """The names that one part (`from_input.weight`, ...) of all gates has in a layer, in the order of `GATES`."""
    return [f"cell.{gate}.{part}" for gate in GATES]


class ModelShape(NamedTuple):
    """The sizes that decide which weights a model has. `implementation` is not one of them.

    `embedding_size` 0 is no embedding: characters are one-hot. `feed_forward_size` counts the block's inner features; 0
    is no block.
    """

    vocab_size: int
    embedding_size: int
    hidden_size: int
    num_layers: int
    feed_forward_size: int = 0  # models had no block once

    @property
    def input_size(self) -> int:
        """Features of a character below the first layer."""
        return self.embedding_size or self.vocab_size

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """The names and shapes that the weights of a `CharLSTM` have on disk."""
        hidden = self.hidden_size
        found: dict[str, tuple[int, ...]] = {EMBEDDING: (self.vocab_size, self.input_size)}
        for layer in range(self.num_layers):
            input_size = hidden if layer else self.input_size
            for part, size in {
                "from_input.weight": (hidden, input_size),
                "from_input.bias": (hidden,),
                "from_hidden.weight": (hidden, hidden),
            }.items():
                found |= dict.fromkeys(
                    (f"layers.{layer}.{name}" for name in gate_weight_names(part)), size
                )
        if self.feed_forward_size:
            found["feed_forward.up.weight"] = (self.feed_forward_size, hidden)
            found["feed_forward.down.weight"] = (hidden, self.feed_forward_size)
        return found | {HEAD: (self.vocab_size, hidden), "head.bias": (self.vocab_size,)}

    @property
    def num_parameters(self) -> int:
        """Trained numbers: neither a one-hot embedding nor `nn.LSTM`'s unused second bias."""
        return sum(
            math.prod(size)
            for name, size in self.weights.items()
            if name != EMBEDDING or self.embedding_size
        )

    @property
    def num_multiplied(self) -> int:
        """Weights that each character is multiplied with: all matrices but the embedding, of which it takes a row."""
        return sum(
            math.prod(size)
            for name, size in self.weights.items()
            if len(size) == 2 and name != EMBEDDING
        )
