"""Whether the doctor counts the steps that a training will have."""

import shutil
from pathlib import Path

import pytest

from benchmarks.projects import ROOT, compose
from charlstm.text.vocabulary import Vocab
from pipeline.doctor.text import Encoded, check_length


def test_only_the_rows_of_the_corpus_decide_how_long_an_epoch_is() -> None:
    """27,000 characters are 14 steps of 32 rows an epoch, and would be 5 of 96: fewer than the warm-up in 10 epochs."""
    student = compose(ROOT, ["recipe=student", "train.epochs=10"])
    assert list(check_length(student, Encoded(Vocab("ab"), 27_000))) == []
    (refusal,) = check_length(student, Encoded(Vocab("ab"), 18_000))
    assert "train.warmup_steps is 100" in refusal.text


def test_what_teachers_wrote_for_other_parameters_is_told_before_they_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = compose(ROOT, ["recipe=student", "teachers.parts=[1,2]"])
    (tmp_path / "distillation").mkdir()
    shutil.copy(ROOT / "distillation/dvc.yaml", tmp_path / "distillation")
    monkeypatch.chdir(tmp_path)
    for part in ("1", "2", "10"):
        (tmp_path / "artifacts/distillation/text" / part).mkdir(parents=True)
    (tmp_path / "artifacts/distillation/text/.gitignore").write_text("/10\n")  # of DVC
    (refusal,) = check_length(student, Encoded(Vocab("ab"), 1_000_000))
    assert refusal.is_error and refusal.text.endswith(": rm -r artifacts/distillation/text/10")
