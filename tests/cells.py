"""Small models for tests of what cells track: random ones, and one with a planted cell."""

from typing import cast

import torch

from charlstm.model.char_lstm import CharLSTM, initial_weights
from charlstm.model.gates import LSTMCell
from charlstm.model.layers import GatesLayer
from charlstm.model.shape import ModelShape
from charlstm.seeds import torch_generator
from charlstm.text.vocabulary import Vocab

HIDDEN, LAYERS = 8, 2
PLANTED = 5  # the unit of the upper layer
STEP = 0.01  # what it adds with every character


def random_model(vocab: Vocab, seed: int, num_layers: int = LAYERS) -> CharLSTM:
    """With one-hot characters, so that a weight is of one character."""
    shape = ModelShape(len(vocab), 0, HIDDEN, num_layers)
    weights = initial_weights(
        shape, "orthogonal", forget_gate_bias=1.0, generator=torch_generator(seed, "a random model in a test")
    )
    model = CharLSTM(shape, "gates")
    model.load_state_dict(weights)
    return model.requires_grad_(False)


def cell_of(model: CharLSTM, layer: int) -> LSTMCell:
    return cast(GatesLayer, model.layers[layer]).cell


@torch.no_grad()
def plant_line_counter(model: CharLSTM, vocab: Vocab, step: float = STEP) -> None:
    """Unit PLANTED of the lowest layer counts characters by `step`, and starts over at each line break."""
    cell, newline = cell_of(model, 0), vocab.characters.index("\n")
    for gate in (cell.input_gate, cell.forget_gate, cell.candidate, cell.output_gate):
        gate.from_input.weight[PLANTED] = 0.0
        gate.from_hidden.weight[PLANTED] = 0.0
        gate.from_input.bias[PLANTED] = 20.0  # open
    cell.candidate.from_input.bias[PLANTED] = step
    for gate in (cell.forget_gate, cell.input_gate):
        gate.from_input.weight[PLANTED, newline] = -40.0
