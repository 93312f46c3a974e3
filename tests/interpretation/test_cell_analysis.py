"""A planted cell is found and confirmed, and effects equal their definitions."""

from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from charlstm.evaluation.results import write_document
from charlstm.interpretation.analysis import (
    EXCERPT_LEN,
    ROW_LEN,
    WARM_UP,
    CellsDocument,
    analyse_cells,
    cell_states,
    cells_table,
    effect_and_p,
    ranks,
    read_cells,
    weights,
)
from charlstm.interpretation.labels import labels_of
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMCell
from charlstm.model.initialization import initial_weights
from charlstm.model.layers import GatesLayer
from charlstm.model.shape import ModelShape
from charlstm.seeds import torch_generator
from charlstm.text.vocabulary import Vocab

LABEL = "line position"
HIDDEN = 8
LAYERS = 2
PLANTED = 5  # a unit of the lowest layer
STEP = 0.01  # added by each character


def random_model(vocab: Vocab, seed: int, num_layers: int = LAYERS) -> CharLSTM:
    """Return a model with one-hot characters, so that each weight belongs to a character."""
    shape = ModelShape(len(vocab), 0, HIDDEN, num_layers)
    generator = torch_generator(seed, "a random model in a test")
    weights = initial_weights(shape, "orthogonal", forget_gate_bias=1.0, generator=generator)
    model = CharLSTM(shape, "gates")
    model.load_state_dict(weights)
    return model.requires_grad_(False)


def cell_of(model: CharLSTM, layer: int) -> LSTMCell:
    return cast(GatesLayer, model.layers[layer]).cell


@torch.no_grad()
def plant_line_counter(model: CharLSTM, vocab: Vocab, step: float = STEP) -> None:
    """Let the planted unit count characters by `step` and restart at each line break."""
    cell = cell_of(model, 0)
    newline = vocab.characters.index("\n")
    for gate in (cell.input_gate, cell.forget_gate, cell.candidate, cell.output_gate):
        gate.from_input.weight[PLANTED] = 0.0
        gate.from_hidden.weight[PLANTED] = 0.0
        gate.from_input.bias[PLANTED] = 20.0  # an open gate
    cell.candidate.from_input.bias[PLANTED] = step
    for gate in (cell.forget_gate, cell.input_gate):
        gate.from_input.weight[PLANTED, newline] = -40.0


def analysed(text: str, step: float) -> CellsDocument:
    vocab = Vocab.of(text)
    model = random_model(vocab, seed=1)
    plant_line_counter(model, vocab, step)
    return analyse_cells(model, vocab, vocab.encode(text))


@pytest.mark.parametrize("step", [STEP, -STEP], ids=["up", "down"])
def test_a_planted_cell_is_found_and_confirmed(text: str, step: float) -> None:
    (found,) = [one for one in analysed(text, step).tested if one.label == LABEL]
    assert (found.layer, found.unit, found.is_confirmed) == (1, PLANTED, True)
    assert min(found.effect_found * np.sign(step), found.effect_again * np.sign(step)) > 0.999
    vocab = Vocab.of(text)
    labels = {one.name: one for one in labels_of(vocab.encode(found.excerpt), vocab)}
    positions = labels[LABEL].values_N
    rises = np.diff(np.array(found.levels) * np.sign(step))
    assert len(found.levels) == EXCERPT_LEN and (positions == 0).sum() > 3
    assert (rises[positions[1:] > 1] >= 0).all() and (rises[positions[1:] == 0] <= 0).all()


def test_files_are_the_same_on_any_number_of_cores(text: str, tmp_path: Path) -> None:
    document = analysed(text, STEP)
    # The fixture `isolated` restores the number of threads.
    threads = torch.get_num_threads() + 1
    torch.set_num_threads(threads)
    again = analysed(text, STEP)
    assert torch.get_num_threads() == threads
    for name, one in (("one", document), ("two", again)):
        write_document(tmp_path / name, one)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert read_cells(tmp_path / "one") == document
    table = cells_table(document)
    assert table["label"].tolist() == [one.label for one in document.tested] and len(table) > 5


def test_states_are_those_of_the_equations_in_the_order_of_the_text() -> None:
    vocab = Vocab.of("abcd\n")
    model = random_model(vocab, seed=4)
    ids = np.random.default_rng(7).integers(0, len(vocab), WARM_UP + 2 * ROW_LEN).astype(np.uint8)
    hidden = torch.zeros(LAYERS, HIDDEN)
    cell = torch.zeros(LAYERS, HIDDEN)
    expected = []
    for index in ids.tolist():
        x = model.embedding.weight[index]
        for layer in range(LAYERS):
            gates = cell_of(model, layer).children()
            f, i, c, o = (gate(x[None], hidden[layer][None])[0] for gate in gates)
            cell[layer] = f * cell[layer] + i * c
            hidden[layer] = x = o * torch.tanh(cell[layer])
        expected.append(cell.flatten().clone())
    # The second row begins with a zero state, which a new model soon forgets.
    expected_states = torch.stack(expected[WARM_UP:]).T
    np.testing.assert_allclose(cell_states(model, ids), expected_states, atol=2e-3)


def draws(
    name: str, num_chars: int
) -> tuple[NDArray[np.float16], NDArray[np.bool_], NDArray[np.int64]]:
    generator = np.random.default_rng(list(name.encode()))
    cell_N = generator.integers(-400, 401, num_chars).astype(np.float16) / np.float16(8)
    return cell_N, generator.random(num_chars) < 0.2, generator.integers(0, 9, num_chars)


def test_effects_are_two_auc_less_one_and_spearmans() -> None:
    cell_N, flags_N, numbers_N = draws("effects", 2_000)
    values_N = cell_N.astype(float)
    yes = values_N[flags_N][:, None]
    no = values_N[~flags_N]
    assert weights(flags_N) @ ranks(cell_N) == pytest.approx((yes > no).mean() - (yes < no).mean())
    spearmans = np.corrcoef(pd.Series(values_N).rank(), pd.Series(numbers_N).rank())[0, 1]
    assert weights(numbers_N) @ ranks(cell_N) == pytest.approx(spearmans, rel=1e-4)
    assert weights(flags_N) @ ranks(flags_N) == pytest.approx(1)
    assert not (weights(flags_N) @ ranks(np.full(2_000, 0.3, np.float16))).any()


def test_an_effect_is_compared_with_those_of_the_moved_label() -> None:
    cell_N, _, numbers_N = draws("moved", 1_003)
    effect, p_value = effect_and_p(cell_N, numbers_N)
    shifts = (0, 500, 501, 502, 503)
    moved = [weights(np.roll(numbers_N, shift)) @ ranks(cell_N) for shift in shifts]
    assert effect == pytest.approx(moved[0])
    assert p_value == (1 + sum(abs(one) >= abs(effect) for one in moved[1:])) / 5
