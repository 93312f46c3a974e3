"""The memory of the stages before training is bounded."""

import re
import sys
from pathlib import Path

import pytest

from benchmarks import pipeline


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
