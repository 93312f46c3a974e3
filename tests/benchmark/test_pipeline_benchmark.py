"""`python -m benchmarks.pipeline --gigabytes`, in its short form."""

import sys
from pathlib import Path

import pytest

from benchmarks import pipeline

MAX_MEMORY_MB = 200


def test_memory_is_bounded_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(sys, "argv", ["pipeline", "--gigabytes", "0.01", "--kinds", "mixed"])
    assert pipeline.main() == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["mixed", "download"], ["mixed", "split"], ["mixed", "encode"]]
    assert all(0 < int(row[-1].removesuffix(" MB")) < MAX_MEMORY_MB for row in rows)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", pipeline.KINDS)
def test_texts_have_their_size_and_come_from_a_seed(kind: str) -> None:
    content = b"".join(pipeline.text_blocks(kind, 300_000))
    assert 300_000 - 4 < len(content) <= 300_000
    assert content.decode()
    assert content == b"".join(pipeline.text_blocks(kind, 300_000))
    assert content != b"".join(pipeline.text_blocks(kind, 300_000, seed=2))
