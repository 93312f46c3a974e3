"""The arithmetic of `python -m benchmarks.training`."""

import numpy as np

from benchmarks.projects import ROOT, compose
from benchmarks.training import profile
from benchmarks.trials import fresh_processes
from charlstm.text.encoded import EncodedText
from charlstm.training.learner import Learner

SMALL = ["model.hidden_size=16", "model.feed_forward_size=8", "train.batch_size=6"]


def test_a_profile_has_all_parts_of_a_step() -> None:
    params = compose(ROOT, ["recipe=best", *SMALL])
    text = EncodedText(np.random.default_rng(0).integers(20, size=4000, dtype=np.uint8))
    parts = profile(Learner(text, 20, params.model, params.train, fresh_processes(params)))
    assert set(parts) == {
        "data",
        "dropout masks",
        "forward",
        "loss",
        "backward",
        "clipping",
        "AdamW",
        "Muon",
        "moving average",
        "everything else",
    }
    assert all(seconds > 0 for seconds in parts.values())
