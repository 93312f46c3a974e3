"""Trainings of tiny models: they learn, repeat, stop when told, and refuse what cannot work."""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import torch

from charlstm.model import loss
from charlstm.model.char_lstm import CharLSTM
from charlstm.model.protocols import windowed
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab
from charlstm.training.checkpoint import CheckpointFolder
from charlstm.training.loop import Data, Result, fit
from charlstm.training.processes import Processes
from charlstm.training.progress import Observer
from tests.support.learning import needs_bf16
from tests.support.projects import tiny_params

Fit = Callable[..., Result]
OFF = {
    "train.dropout.embedding": 0.0,
    "train.dropout.output": 0.0,
    "train.state_reset_probability": 0.0,
}


@pytest.fixture
def run(tmp_path: Path, text: str) -> Fit:
    def train(
        override: dict[str, Any],
        observers: Sequence[Observer] = (),
        parts: tuple[str, str] = (text[:3000], text[3000:3500]),
    ) -> Result:
        loaded = tiny_params(tmp_path, override)
        vocab = Vocab.of(text)
        known, held_out = (EncodedText(vocab.encode(part)) for part in parts)
        data = Data(known, held_out, vocab)
        processes = Processes(loaded.train.precision)
        checkpoints = CheckpointFolder(Path(mkdtemp(dir=tmp_path)), 1000)
        return fit(data, loaded.model, loaded.train, processes, checkpoints, observers)

    return train


def losses(result: Result) -> list[float]:
    return [row.train_nats_per_char for row in result.steps]


@needs_bf16
@pytest.mark.parametrize("batching", ["streams", "windows", "sliding_windows"])
def test_two_runs_are_bit_identical(run: Fit, batching: str) -> None:
    override = {"train.batching": batching, "train.window_stride": 20, "train.precision": "bf16"}
    first = run(override)
    second = run(override)
    assert first.steps == second.steps and len(first.steps) > 20
    for name, weight in first.weights.items():
        assert torch.equal(weight, second.weights[name]), name
    assert losses(run(override | {"train.seed": 2})) != losses(first)


@pytest.mark.parametrize(
    ("precision", "num_steps", "tolerance"), [("fp64", 50, 1e-9), ("fp32", 20, 1e-5)]
)
def test_gates_train_to_the_same_losses_as_fused(
    run: Fit, precision: str, num_steps: int, tolerance: float
) -> None:
    common = {
        "train.precision": precision,
        "model.num_layers": 2,
        "train.dropout.between_layers": 0.2,
        "model.feed_forward_size": 10,
        "train.dropout.output": 0.2,
        "train.dropout.output_samples": 3,
        "train.epochs": 2,
    }
    fused, gates = (
        losses(run(common | {"model.implementation": kind})) for kind in ("fused", "gates")
    )
    assert len(fused) >= num_steps
    assert gates[:num_steps] == pytest.approx(fused[:num_steps], rel=tolerance)


@pytest.mark.parametrize("validation", ["windowed", "sliding"])
def test_validation_may_read_a_beginning(run: Fit, validation: str, text: str) -> None:
    def val_losses(num_val_chars: int, max_chars: int | None = None) -> list[float]:
        override = {"train.validation": validation, "train.validation_chars": max_chars}
        parts = (text[:3000], text[3000 : 3000 + num_val_chars])
        return [row.val_nats_per_char for row in run(override, parts=parts).epochs]

    whole = val_losses(500)
    assert val_losses(500, 500) == whole
    assert val_losses(500, 123) == val_losses(123) != whole


def test_pieces_of_a_batch_train_to_the_same_losses(
    run: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits of a large alphabet are too many for one piece, and micro-batches are no result."""
    override = {
        "train.precision": "fp64",
        "train.dropout.output": 0.2,
        "train.dropout.output_samples": 2,
    }
    whole = losses(run(override))
    monkeypatch.setattr(loss, "MAX_LOGITS", 3000)
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 1000)
    pieces = losses(run(override | {"train.micro_batch_size": 3}))
    assert pieces == pytest.approx(whole, rel=1e-9) and len(whole) > 20
    assert pieces != whole


def test_the_best_epoch_is_kept_and_early_stopping_stops(run: Fit) -> None:
    stopping = {"train.learning_rate": 0.05, "train.early_stopping_epochs": 2}
    result = run(OFF | stopping | {"train.epochs": 40})
    vals = [row.val_nats_per_char for row in result.epochs]
    assert len(vals) < 40
    assert result.best.val_nats_per_char == min(vals)
    assert len(vals) == result.best.epoch + 2


def test_the_kept_weights_have_the_reported_loss(run: Fit, text: str) -> None:
    result = run({"train.epochs": 3})
    model = CharLSTM(result.shape, "gates")
    model.load_state_dict(result.weights)
    val_ids = Vocab.of(text).encode(text[3000:3500])
    found = windowed(model, EncodedText(val_ids), 20).nats_per_char
    assert found == pytest.approx(result.best.val_nats_per_char, rel=1e-6)


def test_log_intervals_average_their_steps(run: Fit) -> None:
    every = run({})
    fifth = run({"train.log_every_steps": 5})
    assert [row.step for row in fifth.steps] == [5, 10, 15, 20, 25, 30, 35, 40, 45, 47]
    assert fifth.steps[0].train_nats_per_char == pytest.approx(sum(losses(every)[:5]) / 5)
    assert fifth.epochs[0].train_nats_per_char == pytest.approx(every.epochs[0].train_nats_per_char)


def test_resets_and_dropout_change_training_and_zero_switches_them_off(run: Fit) -> None:
    plain = losses(run(OFF))
    for name in ("state_reset_probability", "dropout.embedding", "dropout.output"):
        assert losses(run(OFF | {f"train.{name}": 0.5}))[1:] != plain[1:], name
    elementwise = OFF | {"train.dropout.output": 0.5, "train.dropout.style": "elementwise"}
    assert losses(run(elementwise)) != losses(run(elementwise | {"train.dropout.style": "locked"}))
