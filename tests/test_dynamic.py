import numpy as np
import pytest
import torch

from benchmarks.dynamic import DynamicRule, Ensemble, dynamic
from charlstm.evaluation.protocols import stateful
from charlstm.model.char_lstm import CharLSTM, ModelShape
from charlstm.text.encoded import EncodedText

RULE = DynamicRule(piece_len=10, learning_rate=0.01, decay=0.001, num_training_pieces=5)


@pytest.fixture
def model() -> CharLSTM:
    torch.manual_seed(0)
    return CharLSTM(ModelShape(9, 4, 6, 2, 5), "fused").double()


@pytest.fixture(scope="module")
def train_ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 9, 307).astype(np.uint8)


def test_without_steps_it_is_stateful(model: CharLSTM, train_ids: np.ndarray) -> None:
    ids = train_ids[::-1].copy()
    loss = dynamic(model, ids, train_ids, RULE._replace(learning_rate=0.0))
    assert loss.num_chars == len(ids) - 1
    assert loss.nats == pytest.approx(stateful(model, EncodedText(ids)).nats)


def test_without_steps_documents_are_those_of_stateful(model: CharLSTM, train_ids: np.ndarray) -> None:
    ids, separator = train_ids[::-1].copy(), np.array([3], np.uint8)
    loss = dynamic(model, ids, train_ids, RULE._replace(learning_rate=0.0), separator=separator)
    assert loss.nats == pytest.approx(stateful(model, EncodedText(ids, separator=separator)).nats)
    assert loss.nats != pytest.approx(stateful(model, EncodedText(ids)).nats, rel=1e-6)


def test_a_piece_is_scored_before_the_weights_move(model: CharLSTM, train_ids: np.ndarray) -> None:
    ids = np.full(201, 3, dtype=np.uint8)
    first_piece = dynamic(model, ids[:11], train_ids, RULE)
    assert first_piece.nats == pytest.approx(stateful(model, EncodedText(ids[:11])).nats)
    assert dynamic(model, ids, train_ids, RULE).nats < 0.8 * stateful(model, EncodedText(ids)).nats


def test_nobody_foresees_chance(model: CharLSTM, train_ids: np.ndarray) -> None:
    """A model that saw what it is scored on would be below the entropy of the draws."""
    ids = np.random.default_rng(1).integers(0, 9, 2001).astype(np.uint8)
    assert dynamic(model, ids, train_ids, RULE).nats_per_char > np.log(9) - 0.01


def test_decay_holds_the_weights(model: CharLSTM, train_ids: np.ndarray) -> None:
    ids = np.full(201, 3, dtype=np.uint8)
    held = dynamic(model, ids, train_ids, RULE._replace(decay=1e6))  # back to the start before every step
    assert dynamic(model, ids, train_ids, RULE).nats < held.nats < stateful(model, EncodedText(ids)).nats


def test_the_weights_are_as_before(model: CharLSTM, train_ids: np.ndarray) -> None:
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    first, again = (dynamic(model, train_ids, train_ids, RULE) for _ in range(2))
    assert first == again
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]), name
    assert all(weight.grad is None for weight in model.parameters())


def test_an_ensemble_follows_too(model: CharLSTM, train_ids: np.ndarray) -> None:
    ids = np.full(201, 3, dtype=np.uint8)
    other = CharLSTM(model.shape, "fused").double()
    both = Ensemble([model, other])
    assert dynamic(both, ids, train_ids, RULE).nats < 0.8 * stateful(both, EncodedText(ids)).nats
