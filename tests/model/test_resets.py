"""Batches with several documents against a loop that reads one document at a time."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from charlstm.model.char_lstm import CharLSTM
from charlstm.model.dropout import DropoutMasks, DropoutRates, draw_masks
from charlstm.model.gates import LSTMState
from charlstm.model.resets import Resets
from charlstm.model.shape import Implementation, ModelShape

NUM_ROWS = 3
NUM_STEPS = 12
NUM_COPIES = 2
SHAPE = ModelShape(vocab_size=9, embedding_size=4, hidden_size=6, num_layers=2, feed_forward_size=5)
STARTS = torch.zeros(NUM_ROWS, NUM_STEPS, dtype=torch.bool)
STARTS[0, [0, 5, 6]] = STARTS[1, [5, 11]] = True  # the last row has no start


def make(implementation: Implementation) -> CharLSTM:
    torch.manual_seed(0)
    return CharLSTM(SHAPE, implementation).double()


def ids() -> Tensor:
    return torch.randint(0, 9, (NUM_ROWS, NUM_STEPS), generator=torch.Generator().manual_seed(1))


def some_state() -> LSTMState:
    torch.manual_seed(2)
    return LSTMState(*torch.randn(2, SHAPE.num_layers, NUM_ROWS, SHAPE.hidden_size).double().tanh())


def masks(num_steps: int) -> DropoutMasks:
    return draw_masks(
        3,
        0,
        DropoutRates(0.3, 0.3, 0.3),
        SHAPE,
        num_steps=num_steps,
        batch_size=NUM_ROWS,
        rows=slice(None),
        num_output_samples=NUM_COPIES,
        dtype=torch.float64,
    )


def at_times(masks: DropoutMasks, times: slice) -> DropoutMasks:
    def cut(mask: Tensor | None) -> Tensor:
        assert mask is not None
        return mask[..., times, :, :]

    return masks._replace(
        embedding=cut(masks.embedding),
        between_layers=tuple(map(cut, masks.between_layers)),
        output=cut(masks.output),
    )


def logits_of(
    model: CharLSTM,
    ids_BT: Tensor,
    state: LSTMState | None,
    drawn: DropoutMasks | None,
    resets: Resets | None = None,
) -> Tensor:
    features_STBH, _ = model.features(ids_BT, state, drawn, resets)
    return model.logits(features_STBH)


def one_by_one(
    model: CharLSTM, state: LSTMState, drawn: DropoutMasks | None, is_locked: bool
) -> Tensor:
    rows = []
    for row in range(NUM_ROWS):
        here = slice(row, row + 1)
        logits = []
        at: LSTMState | None = state.rows(here)
        edges = sorted({0, NUM_STEPS, *STARTS[row].nonzero()[:, 0].tolist()})
        for first, last in pairwise(edges):
            if STARTS[row, first]:
                at = None
            mine = drawn.rows(here) if drawn else None
            if mine and not is_locked:
                mine = at_times(mine, slice(first, last))
            logits.append(logits_of(model, ids()[here, first:last], at, mine))
        rows.append(torch.cat(logits, dim=1))
    # The rows of the first copy come before those of the second.
    return torch.stack(rows, dim=1).flatten(0, 1)


@pytest.mark.parametrize("implementation", ["gates", "fused"])
@pytest.mark.parametrize("dropout", ["none", "locked", "elementwise"])
def test_documents_are_read_from_a_zero_state_with_the_same_gradients(
    implementation: Implementation, dropout: str
) -> None:
    drawn = None if dropout == "none" else masks(1 if dropout == "locked" else NUM_STEPS)
    whole, alone = make(implementation), make(implementation)
    resets = Resets.of(STARTS, torch.device("cpu"))
    logits_BTV = logits_of(whole, ids(), some_state(), drawn, resets)
    expected_BTV = one_by_one(alone, some_state(), drawn, dropout == "locked")
    torch.testing.assert_close(logits_BTV, expected_BTV, rtol=0, atol=1e-12)
    assert not torch.allclose(logits_BTV, logits_of(whole, ids(), some_state(), drawn), atol=1e-3)
    for logits in (logits_BTV, expected_BTV):
        torch.autograd.backward(logits.logsumexp(-1).square().sum())
    for (name, mine), theirs in zip(whole.named_parameters(), alone.parameters(), strict=True):
        if mine.requires_grad:
            assert mine.grad is not None and theirs.grad is not None
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize("implementation", ["gates", "fused"])
def test_the_state_after_the_last_character_is_that_of_its_document(
    implementation: Implementation,
) -> None:
    model = make(implementation)
    _, end = model.features(ids(), some_state(), resets=Resets.of(STARTS, torch.device("cpu")))
    torch.testing.assert_close(end.rows(slice(0, 1)), model(ids()[:1, 6:])[1])
    torch.testing.assert_close(end.rows(slice(1, 2)), model(ids()[1:2, 11:])[1])
    torch.testing.assert_close(
        end.rows(slice(2, 3)), model(ids()[2:], some_state().rows(slice(2, 3)))[1]
    )
