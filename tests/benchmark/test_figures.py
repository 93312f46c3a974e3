"""What the commands that measure say, where it can be known before."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import pipeline
from benchmarks.projects import ROOT


@pytest.mark.slow
def test_what_the_processor_emulates_is_left_out_in_one_line() -> None:
    code = "from benchmarks.training import precisions; print(precisions('cpu'))"
    without = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=without, capture_output=True, text=True)
    assert done.stdout == "bf16 is left out: this hardware would emulate it\n['fp32']\n", done.stderr


@pytest.mark.slow
def test_the_memory_of_the_stages_before_training_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["pipeline", "--gigabytes", "0.06"])
    assert pipeline.main() == 0
    memory = [int(megabytes) for megabytes in re.findall(r"(\d+) MB", capsys.readouterr().out)]
    assert len(memory) == 3
    assert all(0 < megabytes < 50 for megabytes in memory), "less than the text has"
