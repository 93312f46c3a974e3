"""The sizes of a model and the names of its files, without the model: importing them costs no time."""

from typing import NamedTuple

# Numbers. A step with more logits than MAX_LOGITS computes them in pieces, and again in its backward pass: a fifth to a
# third more time for the head, and memory that grows neither with the alphabet nor with the batch.
MAX_LOGITS, LOGITS_AT_ONCE = 2**24, 2**22

WEIGHTS, CONFIG = "model.safetensors", "config.json"  # beside the vocabulary, in a model folder


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
