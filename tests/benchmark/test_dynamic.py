import numpy as np
import pytest
import torch

from benchmarks.dynamic import DynamicRule, dynamic
from benchmarks.recipes import Ensemble
from charlstm.evaluation.protocols import stateful
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.shape import ModelShape
from charlstm.text.encoded import EncodedText

RULE = DynamicRule(piece_len=10, learning_rate=0.01, decay=0.001, num_training_pieces=5)


@pytest.fixture
def model() -> CharLSTM:
    torch.manual_seed(0)
    return CharLSTM(ModelShape(9, 4, 6, 2, 5), "fused").double()


@pytest.fixture(scope="module")
def train() -> EncodedText:
    return EncodedText(np.random.default_rng(0).integers(0, 9, 307).astype(np.uint8))


def test_without_steps_it_is_stateful(model: CharLSTM, train: EncodedText) -> None:
    text = EncodedText(train.ids[::-1].copy())
    loss = dynamic(model, text, train, RULE._replace(learning_rate=0.0))
    assert loss.num_chars == len(text) - 1
    assert loss.nats == pytest.approx(stateful(model, text).nats)


def test_without_steps_documents_are_those_of_stateful(model: CharLSTM, train: EncodedText) -> None:
    text = EncodedText(train.ids[::-1].copy(), separator=np.array([3], np.uint8))
    loss = dynamic(model, text, train, RULE._replace(learning_rate=0.0))
    assert loss.nats == pytest.approx(stateful(model, text).nats)
    assert loss.nats != pytest.approx(stateful(model, EncodedText(text.ids)).nats, rel=1e-6)


def test_a_piece_is_scored_before_the_weights_move(model: CharLSTM, train: EncodedText) -> None:
    text = EncodedText(np.full(201, 3, dtype=np.uint8))
    first_piece = dynamic(model, text.first(11), train, RULE)
    assert first_piece.nats == pytest.approx(stateful(model, text.first(11)).nats)
    assert dynamic(model, text, train, RULE).nats < 0.8 * stateful(model, text).nats


def test_nobody_foresees_chance(model: CharLSTM, train: EncodedText) -> None:
    """A model that saw what it is scored on would be below the entropy of the draws."""
    text = EncodedText(np.random.default_rng(1).integers(0, 9, 2001).astype(np.uint8))
    assert dynamic(model, text, train, RULE).nats_per_char > np.log(9) - 0.01


def test_decay_holds_the_weights(model: CharLSTM, train: EncodedText) -> None:
    text = EncodedText(np.full(201, 3, dtype=np.uint8))
    held = dynamic(model, text, train, RULE._replace(decay=1e6))  # back to the start before every step
    assert dynamic(model, text, train, RULE).nats < held.nats < stateful(model, text).nats


def test_the_weights_are_as_before(model: CharLSTM, train: EncodedText) -> None:
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    first, again = (dynamic(model, train, train, RULE) for _ in range(2))
    assert first == again
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name]), name
    assert all(weight.grad is None for weight in model.parameters())


def test_an_ensemble_follows_too(model: CharLSTM, train: EncodedText) -> None:
    text = EncodedText(np.full(201, 3, dtype=np.uint8))
    other = CharLSTM(model.shape, "fused").double()
    both = Ensemble([model, other])
    assert dynamic(both, text, train, RULE).nats < 0.8 * stateful(both, text).nats
