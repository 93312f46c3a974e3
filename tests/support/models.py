"""Untrained models."""

import torch

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import Implementation, ModelShape


def random_model(
    shape: ModelShape, implementation: Implementation = "gates", factor: float = 1.0
) -> CharLSTM:
    """Return a model with random weights. A larger `factor` makes its predictions differ more."""
    torch.manual_seed(0)
    model = CharLSTM(shape, implementation).eval()
    for weight in model.parameters():
        # One-hot embeddings and the second biases of `nn.LSTM` are not trained.
        if weight.requires_grad:
            weight.data.mul_(factor)
    return model.requires_grad_(False)
