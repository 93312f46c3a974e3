"""The benchmark of luck: each training is in one comparison at most, none is repeated, and neighbors are correlated."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import differences
from benchmarks.trials import Trial
from charlstm.evaluation.blocks import Blocks
from charlstm.evaluation.protocols import stateful
from charlstm.model.model_folder import load_model
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab
from charlstm.training.train import Data


def of_loss(loss: float) -> Blocks:
    return Blocks(np.arange(30) * 500, np.full(30, 500), np.full(30, 500 * loss))


def test_each_training_is_compared_once() -> None:
    order = [of_loss(1 + number / 100) for number in range(14)]
    for size, expected in ((1, 7), (2, 3), (3, 2)):
        found = list(differences.comparisons(order, size))
        assert len(found) == expected
        used = [loss for one in found for side in (one.best, one.other) for loss in side.losses]
        assert len(set(used)) == len(used) == 2 * size * expected
        assert all(one.nats_per_char > 0 for one in found)


def test_alarms_are_counted() -> None:
    """Of blocks without noise, any difference is beyond the text; one of each is never real."""
    rows = list(differences.rows_of_alarms([of_loss(1 + number / 100) for number in range(12)], 2))
    assert [row[:3] for row in rows[:2]] == [("1 and 1", "once", "6"), ("1 and 1", "2 times", "12")]
    assert rows[0][3:] == ("6 (100.0%)", "unknown", "0 (0.0%)")
    jumps = [of_loss(1 + number // 2 + number / 1000) for number in range(12)]
    assert list(differences.rows_of_alarms(jumps, 0))[1] == ("2 and 2", "once", "3", *["3 (100.0%)"] * 3)


def test_neighbors_of_noise_are_not_alike_and_those_of_a_walk_are() -> None:
    noise_N = np.random.default_rng(0).normal(size=200_000)
    assert abs(differences.neighbors(noise_N, 100)) < 0.1
    assert differences.neighbors(noise_N.cumsum(), 100) > 0.9


def test_a_training_is_kept(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differences, "FOLDER", tmp_path)
    vocab = Vocab.of(text)
    data = Data(EncodedText(vocab.encode(text[:6000])), EncodedText(vocab.encode(text[-2000:])), vocab)
    trial = Trial((*differences.SMALL, "model.hidden_size=8", "train.warmup_steps=1"), 2)
    found = differences.measured(trial, data)
    (folder,) = tmp_path.glob("*/model")
    loss = stateful(load_model(folder, "fused").model, data.val).nats_per_char
    assert found.blocks.nats_per_char == pytest.approx(loss, rel=1e-12) and len(found.nats_N) == 1999
    monkeypatch.delattr(differences, "train")
    again = differences.measured(trial, data)
    assert again.nats_N.tolist() == found.nats_N.tolist()
