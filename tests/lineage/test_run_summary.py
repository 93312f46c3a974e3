"""Names and descriptions of runs, also for hostile texts."""

import pytest

from pipeline.lineage.run_page import RunSummary, describe, run_name
from pipeline.recipes import Recipe

STARTED = RunSummary(
    corpus="text.txt", corpus_sha256="c0ffee" * 10, recipe=Recipe("quick", {}), seed=1
)
LOSSES = {"windowed_100": 1.47266, "windowed_256": 1.4, "stateful": 1.3}
TRAINED = STARTED._replace(num_parameters=812_345, val_nats_per_char=1.4721, model_sha256="ab" * 32)
HOSTILE = [
    "<script>alert(1)</script>",
    "```\n# out of the fence\n````\n~~~\n| a | b |\n|---|---|\n[link](javascript:alert(1)) ![](x)",
    "\u2028\u202e\x1b[2J\x00\r\n&lt;b&gt; &amp; 'quotes' \"too\"",
    "\n" * 100 + "x" * 10_000,
]


def test_names_tell_runs_apart() -> None:
    assert run_name(STARTED) == "quick · seed 1"
    assert run_name(TRAINED) == "quick · 0.81M · seed 1"
    assert run_name(TRAINED._replace(losses=LOSSES)) == "quick · 0.81M · seed 1 · 1.3000"
    named = TRAINED._replace(experiment="puffy-daks", recipe=Recipe("best", {"train.epochs": 3}))
    assert run_name(named) == "epochs 3 · best · 0.81M · seed 1"
    assert "- DVC experiment `puffy-daks`\n" in describe(named)
    compared = describe(named._replace(baselines="a 6-gram gives 2.1"))
    assert "- for comparison, a 6-gram gives 2.1 bits/char\n" in compared


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_sources_stay_within_their_line(text: str) -> None:
    hostile = TRAINED._replace(corpus=text, experiment=text)
    assert len(describe(hostile).splitlines()) == len(describe(TRAINED).splitlines()) + 1
    (line,) = [line for line in describe(hostile).splitlines() if line.startswith("- corpus ")]
    assert line.count("`") == 4
    assert len(run_name(hostile).splitlines()) == 1 and len(run_name(hostile)) <= 120


def test_no_password_is_in_a_description() -> None:
    source = "https://me:hunter2@host/text.txt?token=hunter2"
    assert "hunter2" not in describe(TRAINED._replace(corpus=source))
