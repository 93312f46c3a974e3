"""Trainings that begin from a model: their weights, their losses, and refused models."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from charlstm.errors import CharlstmError, Interrupted
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.gates import LSTMState
from charlstm.model.initialization import initial_weights, load_initial
from charlstm.model.model_folder import load_model, save_model
from charlstm.model.shape import ModelShape, gate_weight_names
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import ByteVocab, Vocab
from charlstm.training.checkpoint import CheckpointFolder
from charlstm.training.loop import Data, Result, fit
from charlstm.training.processes import Processes
from tests.support.projects import tiny_params

SHAPE = ModelShape(4, 6, 5, 2, 3)
SIZES = {
    "model.embedding_size": 16,
    "model.hidden_size": 64,
    "model.num_layers": 1,
    "model.feed_forward_size": 32,
    "train.dropout.embedding": 0.1,
    "train.ema_decay": 0.0,
}


def fresh(shape: ModelShape, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return initial_weights(shape, "uniform", forget_gate_bias=1.0, generator=generator)


def save(folder: Path, shape: ModelShape, characters: str) -> dict[str, torch.Tensor]:
    weights = fresh(shape, 1)
    save_model(folder, weights, shape, Vocab(characters))
    return weights


@pytest.mark.parametrize("embedding_size", [6, 0])
def test_a_model_of_another_alphabet_computes_the_same_of_the_characters_that_both_know(
    tmp_path: Path, embedding_size: int
) -> None:
    shape = SHAPE._replace(embedding_size=embedding_size)
    save(tmp_path / "model", shape, "abcd")
    vocab = Vocab("dxbyz")  # a and c are removed; x, y and z are new
    larger = shape._replace(vocab_size=len(vocab))
    mine = fresh(larger, 2)
    begun = load_initial(tmp_path / "model", vocab, larger).over(mine, larger)

    old = load_model(tmp_path / "model", "gates").model
    new = CharLSTM(larger, "gates")
    new.load_state_dict(begun)
    state = LSTMState(*torch.randn(2, 2, 1, 5, generator=torch.Generator().manual_seed(3)))
    text = "dbbd"
    before, _ = old(torch.tensor([["abcd".index(one) for one in text]]), state)
    after, _ = new(torch.tensor([[vocab.characters.index(one) for one in text]]), state)
    torch.testing.assert_close(after[..., [0, 2]], before[..., [3, 1]])

    of_new = [1, 3, 4]
    names = ["head.weight", "head.bias", *(["embedding.weight"] if embedding_size else [])]
    for name in names:
        assert torch.equal(begun[name][of_new], mine[name][of_new])
    if not embedding_size:
        for gate in gate_weight_names("from_input.weight"):
            name = f"layers.0.{gate}"
            assert torch.equal(begun[name][:, of_new], mine[name][:, of_new])


def test_a_model_of_other_sizes_or_of_another_unit_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "model", SHAPE, "abcd")
    other = SHAPE._replace(num_layers=1, feed_forward_size=0)
    expected = r"set model.num_layers to 2 \(not 1\), model.feed_forward_size to 3 \(not 0\)"
    with pytest.raises(CharlstmError, match=expected):
        load_initial(tmp_path / "model", Vocab("abcd"), other)
    with pytest.raises(CharlstmError, match="set encode.unit to character"):
        load_initial(tmp_path / "model", ByteVocab(), SHAPE._replace(vocab_size=256))


Train = Callable[..., Result]


@pytest.fixture
def train(tmp_path: Path, text: str, learned: Path) -> Train:
    def run(*, begins: bool, stop_after: int = 10**9, state: str = "state") -> Result:
        AcceleratorState._reset_state(reset_partial_state=True)
        loaded = tiny_params(tmp_path, SIZES)
        vocab = Vocab.of(text[:3500])
        shape = ModelShape(len(vocab), 16, 64, 1, 32)
        initial = load_initial(learned, vocab, shape) if begins else None
        known, held_out = (
            EncodedText(vocab.encode(part)) for part in (text[:3000], text[3000:3500])
        )
        data = Data(known, held_out, vocab, initial=initial)
        processes = Processes(loaded.train.precision)
        checkpoints = CheckpointFolder(tmp_path / state, 1000)
        questions = count()
        is_over = lambda: next(questions) > stop_after  # noqa: E731
        return fit(data, loaded.model, loaded.train, processes, checkpoints, [], is_over)

    return run


def test_the_first_step_knows_what_the_model_has_learned(train: Train) -> None:
    first, other = (train(begins=begins, state=str(begins)) for begins in (True, False))
    assert first.steps[0].train_nats_per_char < other.steps[0].train_nats_per_char - 1
    assert first.best.val_nats_per_char < other.best.val_nats_per_char - 0.5
    assert other.initial_nats_per_char is None
    before = first.initial_nats_per_char
    assert before is not None and abs(before - first.epochs[0].val_nats_per_char) < 1


def test_stopped_and_resumed_it_ends_in_the_same_bits(train: Train) -> None:
    whole = train(begins=True, state="whole")
    with pytest.raises(Interrupted):
        train(begins=True, stop_after=17)
    resumed = train(begins=True)
    assert resumed.steps == whole.steps and len(whole.steps) > 1
    assert resumed.initial_nats_per_char == whole.initial_nats_per_char is not None
    assert all(torch.equal(resumed.weights[name], weight) for name, weight in whole.weights.items())
