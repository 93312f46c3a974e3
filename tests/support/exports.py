"""Small models for export."""

from itertools import product

from charlstm.model.model_folder import TrainedModel
from charlstm.model.shape import Implementation, ModelShape
from charlstm.text.vocabulary import Vocab
from tests.support.models import random_model

VOCAB = Vocab.of("\n 'abcdefgh\N{LATIN SMALL LETTER E WITH ACUTE}\N{GRINNING FACE}\"\\")
SMALL = [ModelShape(len(VOCAB), *sizes) for sizes in product((0, 5), (7,), (1, 3), (0, 6))]


def make(
    shape: ModelShape, implementation: Implementation = "fused", factor: float = 3.0
) -> TrainedModel:
    return TrainedModel(random_model(shape, implementation, factor), VOCAB, "0" * 64)
