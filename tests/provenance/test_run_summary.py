"""What a run's page says, also of texts and names that want to be more than text."""

from collections.abc import Sequence

import pytest

from benchmarks.projects import ROOT, compose
from pipeline.new.proposal import FEW, MAX_DROPOUT, RARE, remedy
from pipeline.provenance.summary import RunSummary, describe, losses_of, page_tags, run_name
from pipeline.stage.presets import Recipe

STARTED = RunSummary(
    corpus="text.txt",
    corpus_sha256="c0ffee" * 10,
    recipe=Recipe("quick", {}),
    seed=1,
)
LOSSES = {"windowed_100": 1.47266, "windowed_256": 1.4, "stateful": 1.3}
TRAINED = STARTED._replace(num_parameters=812_345, val_nats_per_char=1.4721, model_sha256="ab" * 32)
HOSTILE = [
    "<script>alert(1)</script>",
    "```\n# out of the fence\n````\n~~~\n",
    "<pre><code>\n</code></pre>\n</pre><img src=x onerror=alert(1)>",
    "| a | b |\n|---|---|\n[link](javascript:alert(1)) ![](x)",
    "\u2028\u202e\x1b[2J\x00\r\n&lt;b&gt; &amp; 'quotes' \"too\"",
    "\n" * 100 + "x" * 10_000,
]


def advice(changes: Sequence[str] = (), **known: int) -> str:
    """For a text of a million characters, as many as the model has parameters, whose loss rose after epoch 3 of 9."""
    usual = {"best_epoch": 3, "num_epochs": 9, "num_train_chars": 1_000_000, "vocab_size": 65}
    return remedy(compose(ROOT, changes), **{**usual, "num_parameters": 1_000_000, **known})


def test_what_helps_depends_on_how_the_training_went() -> None:
    fell, rose = "the loss still fell in the last epoch: ", "the loss rose after epoch 3 of 9: "
    longer, begin = "train longer (train.epochs)", "begin from a model of a longer text in the same language"
    assert advice(best_epoch=9) == fell + longer
    assert advice(best_epoch=20, num_epochs=20) == f"{fell}find more text"
    assert advice(best_epoch=9, num_train_chars=1_000_001) == f"{fell}{longer}, or take more units (model.hidden_size)"
    fewer = "take fewer units (model.hidden_size)"
    assert advice() == f"{rose}give it more dropout than 0 (train.dropout), or {fewer}"
    assert advice([f"train.dropout.output={MAX_DROPOUT}"]) == rose + fewer
    assert begin in advice(num_train_chars=FEW - 1) and begin not in advice(num_train_chars=FEW)
    rare = "have fewer than 4,966 characters (encode.min_count)"
    assert advice(vocab_size=4_966).endswith(rare)
    assert "fewer than" not in advice(["encode.unit=byte"], vocab_size=4_966)
    assert "fewer than" not in advice(vocab_size=4_966, num_train_chars=4_966 * RARE)


def test_what_helps_after_a_model_is_nothing_that_it_decides() -> None:
    begun = ["train.initial=conf/initial/abc"]
    for sizes in ({}, {"best_epoch": 9}, {"vocab_size": 4_966}, {"best_epoch": 9, "num_train_chars": 2_000_000}):
        found = advice(begun, **sizes)
        assert "hidden_size" not in found and "--from" not in found
    assert advice(begun, best_epoch=12, num_epochs=12) == "the loss still fell in the last epoch: find more text"


def test_names_tell_runs_apart() -> None:
    assert run_name(STARTED) == "quick · seed 1"
    assert run_name(TRAINED) == "quick · 0.81M · seed 1"
    assert run_name(TRAINED._replace(losses=LOSSES)) == "quick · 0.81M · seed 1 · 1.3000"
    named = TRAINED._replace(experiment="puffy-daks", recipe=Recipe("best", {"train.epochs": 3}))
    assert run_name(named) == "puffy-daks · best · epochs 3 · 0.81M · seed 1"


def test_a_description_says_what_is_known_so_far() -> None:
    assert describe(STARTED) == "- recipe `quick`, seed 1\n- corpus `text.txt`, SHA-256 `c0ffeec0ffee`\n"
    assert describe(TRAINED).startswith("- validation, at the best epoch **1.4721** nats/char\n- recipe")
    evaluated = describe(TRAINED._replace(losses=LOSSES))
    assert evaluated.startswith("- windowed_100 **1.4727** nats/char\n- windowed_256 **1.4000** nats/char\n")
    assert evaluated.endswith("- what it was made of: `charlstm trace abababababab`\n")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_sources_stay_within_their_line(text: str) -> None:
    hostile = TRAINED._replace(corpus=text, experiment=text)
    assert len(describe(hostile).splitlines()) == len(describe(TRAINED).splitlines())
    (line,) = [line for line in describe(hostile).splitlines() if line.startswith("- corpus ")]
    assert line.count("`") == 4
    assert len(run_name(hostile).splitlines()) == 1 and len(run_name(hostile)) <= 120


def test_no_password_is_in_a_description() -> None:
    assert "hunter2" not in describe(TRAINED._replace(corpus="https://me:hunter2@host/text.txt?token=hunter2"))


def test_the_recipe_is_a_tag() -> None:
    assert page_tags(TRAINED._replace(recipe=Recipe("quick", {"train.epochs": 2})))["recipe"] == "quick · epochs 2"


def test_losses_are_those_of_whole_evaluations() -> None:
    metrics = {"stateful/nats_per_char": 1.3, "stateful/perplexity": 3.7, "train/nats_per_char": 1.1}
    assert losses_of(metrics | {"validation/nats_per_char": 1.0}) == {"stateful": 1.3}
