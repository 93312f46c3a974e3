"""What a run's page says, also of texts and names that want to be more than text."""

import html
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.projects import ROOT, compose, shipped_params
from charlstm.report.collect import SampleRow
from charlstm.sections import PublishedLoss
from pipeline.new.proposal import FEW, MAX_DROPOUT, RARE, remedy
from pipeline.provenance.summary import RunSummary, describe, losses_of, page_tags, recipe_at, run_name
from pipeline.sample import shown_sample
from pipeline.stage.presets import Recipe

STARTED = RunSummary(
    corpus="text.txt",
    corpus_sha256="c0ffee" * 10,
    commit="ad46d7e" * 5,
    dirty="no",
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


def sample(text: str, prompt: str = "") -> SampleRow:
    return SampleRow(prompt, 0.8, None, 1.0, 0.0, 2, text)


def test_what_helps_depends_on_how_the_training_went() -> None:
    longer = "the loss still fell in the last epoch: train longer (train.epochs)"
    assert advice(best_epoch=9) == longer
    assert advice(best_epoch=1, num_epochs=1) == "there was one epoch: train longer (train.epochs)"
    assert advice(best_epoch=20, num_epochs=20) == "the loss still fell in the last epoch: find more text"
    larger = advice(best_epoch=9, num_train_chars=1_000_001)
    assert larger == f"{longer}, or take more units (model.hidden_size)"
    rose, fewer = "the loss rose after epoch 3 of 9: ", ", or take fewer units (model.hidden_size)"
    where = "(train.dropout.output and train.dropout.between_layers, e.g. {})"
    assert advice() == f"{rose}give it dropout {where.format(0.1)}{fewer}"
    for place in ("embedding", "between_layers", "output"):
        little, much = ([f"train.dropout.{place}={rate}"] for rate in (0.1, MAX_DROPOUT))
        assert advice(little) == f"{rose}give it more dropout than 0.1 {where.format(0.2)}{fewer}"
        assert advice(much) == f"{rose}find more text, since there is dropout of {MAX_DROPOUT} already{fewer}"


def test_what_helps_a_short_text() -> None:
    begin = "begin from a model of a longer text in the same language (charlstm new TEXT --from MODEL)"
    for best_epoch in (3, 9):
        assert f": {begin}, " in advice(best_epoch=best_epoch, num_train_chars=FEW - 1)
        assert begin not in advice(best_epoch=best_epoch, num_train_chars=FEW)
    assert begin not in advice(["train.initial=conf/initial/abc"], num_train_chars=FEW - 1)


def test_what_helps_after_a_model_is_nothing_that_it_decides() -> None:
    begun = ["train.initial=conf/initial/abc"]
    for sizes in ({}, {"best_epoch": 9}, {"vocab_size": 4_966}, {"best_epoch": 9, "num_train_chars": 2_000_000}):
        found = advice(begun, **sizes)
        assert "hidden_size" not in found and "encode.unit" not in found
    fell = "the loss still fell in the last epoch"
    assert advice(begun, best_epoch=11, num_epochs=11) == f"{fell}: train longer (train.epochs)"
    assert advice(begun, best_epoch=12, num_epochs=12) == f"{fell}: find more text"


def test_what_helps_a_large_alphabet() -> None:
    rare = ", or have fewer than 4,966 characters (encode.min_count or encode.unit: byte)"
    assert advice(vocab_size=4_966).endswith(f"(model.hidden_size){rare}")
    assert advice(vocab_size=4_966, best_epoch=9).endswith(f"(train.epochs){rare}")
    assert advice(vocab_size=4_966, num_train_chars=4_966 * RARE - 1).endswith(rare)
    for params, sizes in (
        ([], {"vocab_size": 256}),
        (["encode.unit=byte"], {"vocab_size": 257}),
        ([], {"vocab_size": 4_966, "num_train_chars": 4_966 * RARE}),  # each is there often enough
    ):
        assert "fewer than" not in advice(params, **sizes)


def test_names_tell_runs_apart() -> None:
    assert run_name(STARTED) == "quick · seed 1"
    assert run_name(TRAINED) == "quick · 0.81M · seed 1"
    assert run_name(TRAINED._replace(losses=LOSSES)) == "quick · 0.81M · seed 1 · 1.3000"
    named = TRAINED._replace(experiment="puffy-daks", recipe=Recipe("best", {"train.epochs": 3}))
    assert run_name(named) == "puffy-daks · best · epochs 3 · 0.81M · seed 1"


def test_a_description_says_what_is_known_so_far() -> None:
    assert describe(STARTED).startswith("Training has not ended yet.\n")
    assert describe(TRAINED).startswith("**1.4721** nats/char in validation, at the best epoch. Not evaluated yet.\n")
    evaluated = describe(TRAINED._replace(losses=LOSSES))
    assert evaluated.startswith("| protocol | nats/char |\n| --- | --- |\n| windowed_100 | **1.4727** |\n")
    assert "A sample" not in evaluated
    sampled = describe(TRAINED._replace(losses=LOSSES, sample=sample("\nWhat's this?\n", "ROMEO:")))
    assert "A sample, prompt `'ROMEO:'`, temperature 0.8, seed 2:\n\n<pre>ROMEO:\nWhat's this?\n</pre>" in sampled
    for line in (
        "- Recipe: `quick`, seed 1",
        "- Parameters: 812,345",
        "- Corpus: `text.txt`, SHA-256 `c0ffeec0ffee`",
        "- Commit of `train`: `ad46d7ead46d`",
        f"- Model: SHA-256 `{'ab' * 32}`",
        "charlstm review abababababab ...",
    ):
        assert f"\n{line}" in sampled or f"<pre>{line}" in sampled, line


def test_published_losses_stand_beside_the_same_text_only() -> None:
    one = PublishedLoss(protocol="windowed_100", system="somebody's LSTM", nats_per_char=1.5194)
    evaluated = TRAINED._replace(losses=LOSSES)
    assert one.system not in describe(evaluated) and "published" not in describe(evaluated)
    row = f"| {one.protocol} | **{LOSSES[one.protocol]:.4f}** | {one.nats_per_char:.4f} | {one.system} |"
    described = describe(evaluated._replace(published=[one]))
    assert row in described.splitlines()
    assert "| stateful | **1.3000** |  |  |" in described.splitlines()
    odd = one.model_copy(update={"system": "GPT | 2x256\n\n# <b>big</b>"})
    odd_row = f"| {one.protocol} | **{LOSSES[one.protocol]:.4f}** | 1.5194 | GPT \\| 2x256 # &lt;b&gt;big&lt;/b&gt; |"
    assert odd_row in describe(evaluated._replace(published=[odd])).splitlines()


def test_a_commit_that_is_not_all_of_the_code_says_so() -> None:
    assert "- Commit of `train`: `ad46d7ead46d`, with uncommitted changes\n" in describe(TRAINED._replace(dirty="yes"))
    assert "- Commit of `train`: not in a git repository" in describe(TRAINED._replace(commit=None))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_sample_is_text(text: str) -> None:
    described = describe(TRAINED._replace(sample=sample(text)))
    without = describe(TRAINED)
    blocks = re.findall(r"<pre>(.*?)</pre>", described, flags=re.DOTALL)
    assert len(blocks) == 2 == described.count("<pre>") == described.count("</pre>")
    assert not re.search(r"[<>`~]", blocks[0])
    assert html.unescape(blocks[0])[:20] in repr(text) or html.unescape(blocks[0])[:20] in text
    outside = re.sub(r"<pre>.*?</pre>", "", described, flags=re.DOTALL)
    assert "script" not in outside and "onerror" not in outside
    assert len(described) < 4000 + len(without)  # MLflow's limit of a tag is 8,000 characters
    assert not re.search(r"[\x00\x1b\u2028\u202e]", described)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_sources_stay_within_their_line(text: str) -> None:
    hostile = TRAINED._replace(corpus=text, experiment=text)
    described = describe(hostile)
    assert len(described.splitlines()) == len(describe(TRAINED).splitlines()) + 1
    (line,) = [line for line in described.splitlines() if line.startswith("- Corpus: ")]
    assert line.count("`") == 4
    name = run_name(hostile)
    assert len(name.splitlines()) == 1 and len(name) <= 120


def test_no_password_is_in_a_description() -> None:
    assert "hunter2" not in describe(TRAINED._replace(corpus="https://me:hunter2@host/text.txt?token=hunter2"))


@pytest.mark.parametrize(
    ("temperatures", "expected"), [((0.5, 0.8, 1.0), 0.8), ((1.0, 0.5), 0.5), ((1.2, 0.9), 0.9), ((0.8,), 0.8)]
)
def test_the_sample_of_a_run_is_not_of_a_high_temperature(temperatures: tuple[float, ...], expected: float) -> None:
    texts = [
        SampleRow(prompt, one, None, 1.0, 0.0, seed, "") for prompt in "ab" for one in temperatures for seed in (1, 2)
    ]
    shown = shown_sample(texts)
    assert (shown.prompt, shown.temperature, shown.seed) == ("b", expected, 2)


def test_the_recipe_is_a_tag() -> None:
    assert page_tags(TRAINED._replace(recipe=Recipe("quick", {"train.epochs": 2})))["recipe"] == "quick · epochs 2"


def test_the_recipe_of_a_commit_has_the_name_that_it_had_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "conf/recipe/own.yaml"
    own.parent.mkdir(parents=True)
    for name in ("quick.yaml", "best.yaml"):
        shutil.copy(ROOT / "conf/recipe" / name, own.parent)
    text = shipped_params().replace("hidden_size: 320", "hidden_size: 99").replace("epochs: 2", "epochs: 7", 1)
    (tmp_path / "params.yaml").write_text(text)
    for epochs in (7, 70):
        own.write_text(f"builds_on: quick\nmodel: {{hidden_size: 99}}\ntrain: {{epochs: {epochs}}}\n")
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "some"]):
            subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *command], check=True)
    assert recipe_at("HEAD~1") == "own"
    assert recipe_at("HEAD") == "own · epochs 7"


def test_losses_are_those_of_whole_evaluations() -> None:
    metrics = {"stateful/nats_per_char": 1.3, "stateful/perplexity": 3.7, "train/nats_per_char": 1.1}
    assert losses_of(metrics | {"validation/nats_per_char": 1.0}) == {"stateful": 1.3}
