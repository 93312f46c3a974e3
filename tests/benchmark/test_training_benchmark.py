"""The arithmetic of `python -m benchmarks.training`."""

import numpy as np
import pytest

from benchmarks.projects import ROOT, compose
from benchmarks.training import learner_of, profile
from benchmarks.trials import fresh_processes
from charlstm.text.encoded import EncodedText

SMALL = ["model.hidden_size=16", "model.feed_forward_size=8", "train.batch_size=6"]


@pytest.mark.parametrize("rows_of_teachers", [0, 4])
def test_a_profile_has_all_parts_of_a_step(rows_of_teachers: int) -> None:
    params = compose(ROOT, ["recipe=student", *SMALL, f"train.distillation.rows={rows_of_teachers}"])
    text = EncodedText(np.random.default_rng(0).integers(20, size=4000, dtype=np.uint8))
    parts = profile(learner_of(params, text, 20, fresh_processes(params)))
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
