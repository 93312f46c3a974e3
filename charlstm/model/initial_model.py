"""The weights of a trained model, adapted to the vocabulary of another text.

The weights of the layers and of the feed-forward block stay unchanged. A character in both
vocabularies keeps its row of the embedding, its row of the head and its bias. A character that only
the new text has gets random weights. A character that only the model has is dropped.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from charlstm.errors import CharlstmError
from charlstm.model.model_folder import TrainedModel, load_model
from charlstm.model.shape import EMBEDDING, HEAD, ModelShape, gate_weight_names
from charlstm.text.vocabulary import Vocab


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
