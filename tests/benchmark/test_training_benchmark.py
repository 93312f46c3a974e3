"""The arithmetic of `python -m benchmarks.training`."""

import os
import subprocess
import sys

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


def test_what_the_processor_emulates_is_left_out_in_one_line() -> None:
    code = "from benchmarks.training import precisions; print(precisions('cpu'))"
    without = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=without, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "bf16 is left out: this hardware would emulate it\n['fp32']\n", done.stderr
