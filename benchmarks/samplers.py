"""Other ways of writing texts, one character at a time, for `benchmarks/generation.py` to compare with.

Each is a function of the number of rows and of characters a row, and writes them.
Shapes: B rows, V vocabulary, H hidden units, G = 4H gate rows.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import cast

import torch
from torch import Tensor, nn

from charlstm.generation.sampler import few_threads
from charlstm.model.char_lstm import CharLSTM, ModelShape
from charlstm.model.layers import FusedLayer, GatesLayer

Write = Callable[[int, int], None]
CHAR_RNN_MODULES = ("helpers", "model", "generate")


def on_few_threads(write: Write) -> Write:
    """With as many threads as our sampler takes for so many rows: more would only wait for each other."""

    def write_so(num_rows: int, num_chars: int) -> None:
        with few_threads(num_rows):
            write(num_rows, num_chars)

    return write_so


def plain_lstm(shape: ModelShape) -> Write:
    """`nn.LSTM`, fed with what it drew: what somebody would write in torch. Without a feed-forward block."""
    embedding = nn.Embedding(shape.vocab_size, shape.embedding_size)
    lstm = nn.LSTM(shape.embedding_size, shape.hidden_size, shape.num_layers, batch_first=True)
    head = nn.Linear(shape.hidden_size, shape.vocab_size)

    @torch.inference_mode()
    def write(num_rows: int, num_chars: int) -> None:
        ids_B1, state = torch.zeros(num_rows, 1, dtype=torch.int64), None
        written = []
        for _ in range(num_chars):
            hidden_B1H, state = lstm(embedding(ids_B1), state)
            ids_B1 = torch.multinomial(head(hidden_B1H[:, 0]).softmax(1), 1)
            written.append(ids_B1)
        torch.cat(written, 1).tolist()

    return write


def former_loop(model: CharLSTM) -> Write:
    """What this project had before: one row in fp32, matrix times vector by `addmv`, on folded weights."""
    layers = [cast(GatesLayer | FusedLayer, layer).stacked_weights() for layer in model.layers]
    first = layers[0]
    table_VG = torch.addmm(first.bias, model.embedding.weight, first.from_input.t())

    def step(index: int, states: list[tuple[Tensor, Tensor]]) -> Tensor:
        from_input_G = table_VG[index]
        for number, (hidden_H, cell_H) in enumerate(states):
            if number > 0:
                from_input_G = torch.addmv(layers[number].bias, layers[number].from_input, states[number - 1][0])
            gates_G = torch.addmv(from_input_G, layers[number].from_hidden, hidden_H)
            input_H, forget_H, candidate_H, output_H = gates_G.chunk(4)
            cell_H = forget_H.sigmoid() * cell_H + input_H.sigmoid() * candidate_H.tanh()
            states[number] = (output_H.sigmoid() * cell_H.tanh(), cell_H)
        return torch.addmv(model.head.bias, model.head.weight, model.feed_forward(states[-1][0]))

    @torch.inference_mode()
    def write(num_rows: int, num_chars: int) -> None:
        for _ in range(num_rows):
            index, zeros_H = 0, torch.zeros(model.shape.hidden_size)
            states = [(zeros_H, zeros_H)] * model.shape.num_layers
            for _ in range(num_chars):
                logits_V = step(index, states)
                index = int(torch.multinomial(logits_V.softmax(0), 1))

    return write


def char_rnn(path: Path, shape: ModelShape) -> Write:
    """`generate` of a checkout of spro/char-rnn.pytorch, for a model of its own with our number and size of layers."""
    sys.modules.setdefault("unidecode", ModuleType("unidecode"))  # which it needs to read texts, not to write them
    sys.path.insert(0, str(path))
    try:
        helpers, model, generate = (importlib.import_module(name) for name in CHAR_RNN_MODULES)
    finally:
        sys.path.remove(str(path))
    num_chars_known = helpers.n_characters
    decoder = model.CharRNN(num_chars_known, shape.hidden_size, num_chars_known, "lstm", shape.num_layers)

    def write(num_rows: int, num_chars: int) -> None:
        for _ in range(num_rows):
            generate.generate(decoder, "A", num_chars, temperature=1.0)

    return write
