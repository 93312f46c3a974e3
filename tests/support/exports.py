"""Small models to export."""

from itertools import product

import torch

from charlstm.model.char_lstm import CharLSTM, Implementation
from charlstm.model.model_folder import TrainedModel
from charlstm.model.shape import ModelShape
from charlstm.text.vocabulary import Vocab

VOCAB = Vocab.of("\n 'abcdefgh\N{LATIN SMALL LETTER E WITH ACUTE}\N{GRINNING FACE}\"\\")
SMALL = [ModelShape(len(VOCAB), *sizes) for sizes in product((0, 5), (7,), (1, 3), (0, 6))]


def make(
    shape: ModelShape, implementation: Implementation = "fused", factor: float = 3.0
) -> TrainedModel:
    torch.manual_seed(0)
    model = CharLSTM(shape, implementation).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if not name.endswith("bias_hh_l0") and not (
            shape.embedding_size == 0 and name.startswith("embedding")
        ):
            weight.mul_(factor)  # a model with opinions
    return TrainedModel(model, VOCAB, "0" * 64)
