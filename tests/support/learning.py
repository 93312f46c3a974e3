"""A model that learns in seconds, without a pipeline."""

from pathlib import Path

import numpy as np
import pytest
import torch

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.initialization import initial_weights
from charlstm.model.loss import summed_nats
from charlstm.model.model_folder import save_model
from charlstm.model.shape import ModelShape
from charlstm.text.vocabulary import Vocab
from charlstm.training.processes import has_bf16_lstm

needs_bf16 = pytest.mark.skipif(
    not has_bf16_lstm(), reason="this processor computes no LSTM in bf16"
)

ROWS = 16
CONTEXT = 50


def learn(text: str, folder: Path) -> Path:
    """Train a model on `text` and write its folder. Return the folder."""
    vocab = Vocab.of(text)
    generator = torch.Generator().manual_seed(0)
    shape = ModelShape(len(vocab), 16, 64, 1, 32)
    model = CharLSTM(shape, "fused")
    weights = initial_weights(shape, "orthogonal", forget_gate_bias=1.0, generator=generator)
    model.load_state_dict(weights)
    ids = torch.from_numpy(vocab.encode(text).astype(np.int64))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(120):
        starts = torch.randint(0, len(ids) - CONTEXT, (ROWS, 1), generator=generator)
        ids_BT = ids[starts + torch.arange(CONTEXT + 1)]
        logits_BTV, _ = model(ids_BT[:, :-1])
        optimizer.zero_grad()
        torch.autograd.backward(summed_nats(logits_BTV, ids_BT[:, 1:]) / (ROWS * CONTEXT))
        optimizer.step()
    save_model(folder, model.state_dict(), shape, vocab)
    return folder
