"""The weights of a trained model to begin from, for the vocabulary of another text.

The weights of the layers and of the block stay as they are. A character that both vocabularies have keeps its row of
the embedding, and its row and bias of the head. A character that the model never saw has fresh weights, as without the
model. A character that the new text lacks is dropped.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from charlstm.errors import CharlstmError
from charlstm.model.model_folder import TrainedModel, load_model
from charlstm.model.shape import ModelShape, gate_weight_names
from charlstm.text.vocabulary import Vocab


class InitialWeights(NamedTuple):
    """What a training begins with, where it begins from a trained model."""

    weights: Mapping[str, Tensor]  # of the model
    new_ids: Tensor  # of the characters that both vocabularies have, in the new one ...
    old_ids: Tensor  # ... and in the model's

    def over(self, fresh: Mapping[str, Tensor], shape: ModelShape) -> dict[str, Tensor]:
        """A `state_dict`: the model's weights, and `fresh` ones for the characters that it lacks."""
        is_one_hot = shape.embedding_size == 0
        rows = {"head.weight", "head.bias"} | (set() if is_one_hot else {"embedding.weight"})
        columns = (
            {f"layers.0.{name}" for name in gate_weight_names("from_input.weight")}
            if is_one_hot
            else set()
        )
        found = {**fresh, **self.weights}
        for name in rows:
            found[name] = fresh[name].index_copy(0, self.new_ids, self.weights[name][self.old_ids])
        for name in columns:  # one-hot: the first layer has a column for each character
            found[name] = fresh[name].index_copy(
                1, self.new_ids, self.weights[name][:, self.old_ids]
            )
        if is_one_hot:  # the identity, of this vocabulary's size
            found["embedding.weight"] = fresh["embedding.weight"]
        return found


def load_initial(folder: Path, vocab: Vocab, shape: ModelShape) -> InitialWeights:
    """The weights of the model in `folder`, for a model of `shape` that reads `vocab`.

    Raises:
        CharlstmError: there is no whole model, or it has other sizes, or reads another unit.
    """
    trained = load_model(folder, "gates")
    _check_fits(folder, trained, vocab, shape)
    if vocab.unit == "byte":
        pairs = [(byte, byte) for byte in range(len(vocab))]
    else:
        known = trained.vocab.characters
        pairs = [
            (new, known.index(one)) for new, one in enumerate(vocab.characters) if one in known
        ]
    new_ids, old_ids = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    return InitialWeights(trained.model.state_dict(), new_ids, old_ids)


def _check_fits(folder: Path, trained: TrainedModel, vocab: Vocab, shape: ModelShape) -> None:
    if trained.vocab.unit != vocab.unit:
        raise CharlstmError(
            f"{folder}: the model reads {trained.vocab.unit}s, this text is encoded as {vocab.unit}s: set encode.unit "
            f"to {trained.vocab.unit}, or begin from another model (train.initial)"
        )
    own = trained.model.shape._replace(vocab_size=shape.vocab_size)
    if other := [name for name, size in own._asdict().items() if size != getattr(shape, name)]:
        sizes = ", ".join(
            f"model.{name} {getattr(own, name)} (not {getattr(shape, name)})" for name in other
        )
        raise CharlstmError(
            f"{folder}: a training that begins from this model has its sizes: set {sizes}"
        )
