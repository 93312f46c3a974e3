"""Initial weights of a new model, identical for both implementations and on every device.

Shapes: H hidden units.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from charlstm.errors import CharlstmError
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.layers import FeedForward, GatesLayer
from charlstm.model.model_folder import TrainedModel, load_model
from charlstm.model.shape import EMBEDDING, HEAD, Initialization, ModelShape, gate_weight_names
from charlstm.text.vocabulary import Vocab


@torch.no_grad()
def initial_weights(
    shape: ModelShape,
    initialization: Initialization,
    *,
    forget_gate_bias: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Return randomly initialized weights as a `state_dict` in fp32.

    `orthogonal`: every gate's recurrent matrix is orthogonal (Saxe et al. 2014), all other matrices
    are uniform within ±1/√H as in nn.LSTM, and biases are 0. `uniform`: matrices and biases are
    uniform within ±1/√(inputs), as in nn.Linear.

    In both cases, embeddings are standard normal, as in nn.Embedding. `forget_gate_bias` is added
    to the forget gate's bias, so that a new cell remembers (Jozefowicz et al. 2015 add 1). The
    second matrix of the feed-forward block is 0, so that a new block adds nothing.
    """
    is_orthogonal = initialization == "orthogonal"

    def draw(linear: nn.Linear) -> None:
        bound: float = (shape.hidden_size if is_orthogonal else linear.in_features) ** -0.5
        nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
        if linear.bias is None:
            return
        if is_orthogonal:
            nn.init.zeros_(linear.bias)
        else:
            nn.init.uniform_(linear.bias, -bound, bound, generator=generator)

    # Changing the order of these random numbers would change the weights.
    model = CharLSTM(shape, "gates")
    if shape.embedding_size > 0:
        nn.init.normal_(model.embedding.weight, generator=generator)

    for layer in model.layers:
        cell = cast(GatesLayer, layer).cell
        for gate in (cell.forget_gate, cell.input_gate, cell.candidate, cell.output_gate):
            draw(gate.from_input)
            if is_orthogonal:
                nn.init.orthogonal_(gate.from_hidden.weight, generator=generator)
            else:
                draw(gate.from_hidden)
        cell.forget_gate.from_input.bias.add_(forget_gate_bias)

    if isinstance(model.feed_forward, FeedForward):
        draw(model.feed_forward.up)
        nn.init.zeros_(model.feed_forward.down.weight)
    draw(model.head)
    return model.state_dict()


class InitialWeights(NamedTuple):
    """The weights of a trained model, and the ids of the characters that both vocabularies have."""

    weights: Mapping[str, Tensor]
    new_ids: Tensor  # ids of the shared characters in the new vocabulary
    old_ids: Tensor  # ids of the same characters in the initial model, in the same order

    def over(self, fresh: Mapping[str, Tensor], shape: ModelShape) -> dict[str, Tensor]:
        """Return a `state_dict` of the trained weights, with `fresh` weights for new characters."""
        found = {**fresh, **self.weights}
        names_by_row = [HEAD, "head.bias"]
        names_by_column = []
        if shape.embedding_size > 0:
            names_by_row.append(EMBEDDING)
        else:
            # Characters are one-hot: the embedding is the identity matrix.
            # The input weights of the first layer have one column per character.
            found[EMBEDDING] = fresh[EMBEDDING]
            names_by_column = [
                f"layers.0.{name}" for name in gate_weight_names("from_input.weight")
            ]

        for dim, names in enumerate((names_by_row, names_by_column)):
            for name in names:
                shared = self.weights[name].index_select(dim, self.old_ids)
                found[name] = fresh[name].index_copy(dim, self.new_ids, shared)
        return found


def load_initial(folder: Path, vocab: Vocab, shape: ModelShape) -> InitialWeights:
    """Load a trained model's weights from `folder`, for a new model with `shape` and `vocab`.

    Raises:
        CharlstmError: the model is missing or damaged, or has other sizes or another unit.
    """
    trained = load_model(folder, "gates")
    _check_fits(folder, trained, vocab, shape)
    if vocab.unit == "byte":
        new_ids = old_ids = torch.arange(len(vocab))
    else:
        shared = sorted(set(vocab.characters) & set(trained.vocab.characters))
        new_ids, old_ids = (
            torch.from_numpy(known.encode("".join(shared)).astype("int64"))
            for known in (vocab, trained.vocab)
        )
    return InitialWeights(trained.model.state_dict(), new_ids, old_ids)


def _check_fits(folder: Path, trained: TrainedModel, vocab: Vocab, shape: ModelShape) -> None:
    unit = trained.vocab.unit
    if unit != vocab.unit:
        raise CharlstmError(
            f"{folder}: the model reads {unit}s, but the text is encoded as {vocab.unit}s: "
            f"set encode.unit to {unit}, or choose another model in train.initial"
        )
    wrong = [
        f"model.{name} to {size} (not {getattr(shape, name)})"
        for name, size in trained.model.shape._asdict().items()
        if name != "vocab_size" and size != getattr(shape, name)
    ]
    if wrong:
        raise CharlstmError(
            f"{folder}: to start training from this model, use its sizes: set {', '.join(wrong)}"
        )
