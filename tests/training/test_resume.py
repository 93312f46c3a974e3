"""A training that stops and resumes ends in the bits of a training that never stopped."""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from charlstm.errors import Interrupted
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab
from charlstm.training.checkpoint import CheckpointFolder
from charlstm.training.loop import Data, Result, fit
from charlstm.training.processes import Processes
from tests.support.learning import needs_bf16
from tests.support.projects import tiny_params

Train = Callable[..., Result]
OVERRIDE = {
    "model.num_layers": 2,
    "model.feed_forward_size": 24,
    "train.epochs": 3,
    "train.log_every_steps": 7,
    "train.batch_size": 5,
    "train.dropout.between_layers": 0.2,
    "train.dropout.output_samples": 2,
    "train.state_reset_probability": 0.1,
    "train.ema_decay": 0.9,
}
STEPS_PER_EPOCH = 38


@pytest.fixture
def train(tmp_path: Path, text: str) -> Train:
    def run(override: dict[str, Any], stop_after: int | None = None, name: str = "state") -> Result:
        AcceleratorState._reset_state(reset_partial_state=True)  # as in a new process
        loaded = tiny_params(tmp_path, OVERRIDE | override)
        vocab = Vocab.of(text)
        known, held_out = (
            EncodedText(vocab.encode(part)) for part in (text[:3000], text[3000:3500])
        )
        processes = Processes(loaded.train.precision)
        checkpoints = CheckpointFolder(tmp_path / name, 1000)
        questions = count()  # the first question comes before the first step
        is_over = lambda: stop_after is not None and next(questions) >= stop_after  # noqa: E731
        data = Data(known, held_out, vocab)
        return fit(data, loaded.model, loaded.train, processes, checkpoints, [], is_over)

    return run


def assert_same(found: Result, expected: Result) -> None:
    assert found.steps == expected.steps and len(found.steps) > 10
    assert found.epochs == expected.epochs
    assert found.best == expected.best
    for name, weight in expected.weights.items():
        assert torch.equal(found.weights[name], weight), name


@pytest.mark.parametrize(
    "override",
    [
        {},
        pytest.param({"train.precision": "bf16"}, marks=needs_bf16),
        {"train.batching": "windows", "train.window_stride": 16, "model.implementation": "gates"},
        {
            "train.batching": "sliding_windows",
            "train.window_stride": 16,
            "train.validation": "sliding",
            "model.embedding_size": 0,
        },
        {
            "train.epochs": 20,
            "train.learning_rate": 0.05,
            "train.early_stopping_epochs": 1,
            "train.ema_decay": 0.0,
        },
    ],
    ids=["streams", "bf16", "windows", "sliding windows", "early stopping"],
)
def test_stopping_anywhere_changes_nothing(train: Train, override: dict[str, Any]) -> None:
    expected = train(override, name="reference")
    for num_steps in (1, 9, STEPS_PER_EPOCH - 10, 3, STEPS_PER_EPOCH):
        with pytest.raises(Interrupted, match="stopped on request after step"):
            train(override, num_steps)
    assert_same(train(override), expected)
