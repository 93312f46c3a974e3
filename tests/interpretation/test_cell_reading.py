"""What is recorded, held and clamped equals a model that is stepped by hand."""

import numpy as np
import pytest
import torch
from cells import HIDDEN, LAYERS, cell_of, random_model
from torch import Tensor

from charlstm.interpretation.reading import (
    CLAMPED_LEN,
    GATES,
    HIGH,
    LOW,
    WARM_UP,
    Clamp,
    Halves,
    clamped,
    clamped_texts,
    nats_lost,
    readable,
    record,
)
from charlstm.model.char_lstm import CharLSTM
from charlstm.text.vocabulary import Ids, Vocab

VOCAB = Vocab.of("abcd\n")
FOUND = random_model(VOCAB, seed=4)


def ids(num_chars: int) -> Ids:
    return np.random.default_rng(7).integers(0, len(VOCAB), num_chars).astype(np.uint8)


def steps(model: CharLSTM, ids_T: Ids, clamp: Clamp | None) -> tuple[Tensor, Tensor, Tensor]:
    """Cell states (T, L H), forget gates (T, L H) and logits (T, V) of one row, by the equations."""
    hidden, cell = torch.zeros(LAYERS, HIDDEN), torch.zeros(LAYERS, HIDDEN)
    cells, forgets, logits = [], [], []
    for index in ids_T.tolist():
        x, seen = model.embedding.weight[index], []
        for layer in range(LAYERS):
            gates = cell_of(model, layer)
            f, i, c, o = (gate(x[None], hidden[layer][None])[0] for gate in gates.children())
            cell[layer] = f * cell[layer] + i * c
            if clamp and clamp.layer == layer:
                cell[layer, clamp.unit] = clamp.value
            hidden[layer] = x = o * torch.tanh(cell[layer])
            seen.append(f)
        cells.append(cell.flatten().clone())
        forgets.append(torch.cat(seen))
        logits.append(model.head(x))
    return torch.stack(cells), torch.stack(forgets), torch.stack(logits)


def test_a_recording_is_of_the_equations() -> None:
    halves = Halves(ids(WARM_UP + 100), 50)
    recording = record(FOUND, halves.rows(0, 50, 50))
    cells_TU, forgets_TU, _ = (part[WARM_UP:] for part in steps(FOUND, halves.ids[: WARM_UP + 50], None))
    np.testing.assert_allclose(recording.cells_UN, cells_TU.T, atol=2e-3)
    assert recording.cells_UN.shape == (LAYERS * HIDDEN, 50)
    gate = GATES.index("forget_gate")
    np.testing.assert_allclose(recording.low_GU[gate], (forgets_TU < LOW).float().mean(0))
    np.testing.assert_allclose(recording.high_GU[gate], (forgets_TU > HIGH).float().mean(0))
    is_kept = forgets_TU >= LOW
    expected = (forgets_TU.log() * is_kept).sum(0) / is_kept.sum(0)
    np.testing.assert_allclose(recording.log_forget_U, expected, rtol=1e-4)


def test_rows_side_by_side_are_in_the_order_of_the_text() -> None:
    halves = Halves(ids(WARM_UP + 200), 100)
    whole, parts = (record(FOUND, halves.rows(1, 100, row_len)).cells_UN for row_len in (100, 20))
    np.testing.assert_allclose(whole.astype(float), parts.astype(float), atol=2e-3)  # a fresh model soon forgets
    targets = halves.rows(0, 100, 20, with_targets=True)
    assert targets.shape == (5, WARM_UP + 21) and (targets[:-1, -1] == targets[1:, WARM_UP]).all()
    assert (halves.part(1) == halves.rows(1, 100, 100)[0, WARM_UP:].numpy()).all()


@pytest.mark.parametrize("clamp", [Clamp(0, 3, 0.8), Clamp(1, 2, -1.5)])
def test_a_clamped_cell_costs_what_the_equations_say(clamp: Clamp) -> None:
    text = ids(61)
    rows = torch.from_numpy(text.astype(np.int64))[None]
    found = nats_lost(FOUND, rows, [Clamp(0, 0, 0.1), clamp], num_unscored=10)
    nats = [
        torch.nn.functional.cross_entropy(steps(FOUND, text[:-1], one)[2], rows[0, 1:], reduction="none")[10:]
        for one in (clamp, None)
    ]
    np.testing.assert_allclose(found[1], nats[0] - nats[1], atol=1e-5)
    assert np.abs(found[1]).max() > 1e-3 and found.shape == (2, 50)


def test_clamping_ends_and_touches_no_other_row() -> None:
    rows = torch.from_numpy(ids(60).astype(np.int64)).reshape(3, 20)
    before, _ = FOUND(rows)
    with clamped(FOUND, [None, Clamp(0, 4, 2.0), None]):
        during, state = FOUND(rows)
    after, _ = FOUND(rows)
    assert torch.equal(before, after) and torch.equal(before[[0, 2]], during[[0, 2]])
    assert not torch.allclose(before[1], during[1])
    assert state.cell[0, 1, 4] == 2.0


def test_a_readable_model_is_a_copy_with_the_same_results() -> None:
    fused = CharLSTM(FOUND.shape, "fused")
    fused.load_state_dict(FOUND.state_dict())
    rows = torch.from_numpy(ids(40).astype(np.int64))[None]
    torch.testing.assert_close(readable(fused)(rows)[0], fused(rows)[0])


def test_texts_differ_by_what_is_clamped_alone() -> None:
    mean = Clamp(1, 0, 0.0)
    plain, low, same, high = clamped_texts(FOUND, VOCAB, ids(30), [None, Clamp(1, 0, -50.0), mean, Clamp(1, 0, 50.0)])
    assert len({plain, low, high}) == 3 and {len(one) for one in (plain, low, same, high)} == {CLAMPED_LEN}
    assert clamped_texts(FOUND, VOCAB, ids(30), [None, mean]) == [plain, same]
