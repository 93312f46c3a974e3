"""Whether the doctor counts the steps that a training will have."""

from benchmarks.projects import ROOT, compose
from charlstm.text.vocabulary import Vocab
from pipeline.doctor.text import Encoded, check_length


def test_steps_are_those_of_the_text() -> None:
    """27,000 characters are 14 steps of 32 rows an epoch; 18,000 are 9, fewer than the warm-up in 10 epochs."""
    params = compose(ROOT, ["train.epochs=10"])
    assert list(check_length(params, Encoded(Vocab("ab"), 27_000))) == []
    (refusal,) = check_length(params, Encoded(Vocab("ab"), 18_000))
    assert "train.warmup_steps is 100" in refusal.text
