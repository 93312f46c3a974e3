"""Every recipe is whole and valid, and trials are made of them."""

import os
import signal
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from stages import PUBLISHED_DATA

from benchmarks import trials
from benchmarks.projects import PYTHON, ROOT, compose
from benchmarks.recipes import beside_the_original
from benchmarks.trials import Trial
from charlstm.errors import Interrupted, ParamsError
from charlstm.history import EpochRow
from charlstm.model.char_lstm import CharLSTM
from charlstm.text.encoded import EncodedText
from charlstm.text.vocabulary import Vocab
from charlstm.training.progress import Plan, Progress
from charlstm.training.train import Data
from pipeline.stage.console import TrainingConsole

RECIPES = sorted(file.stem for file in (ROOT / "conf/recipe").glob("*.yaml"))


@pytest.mark.parametrize("name", RECIPES)
def test_each_recipe_is_valid_and_differs_only_in_model_and_training(name: str) -> None:
    default, recipe = compose(ROOT, []), compose(ROOT, [f"recipe={name}"])
    assert (recipe == default) == (name == "quick")
    same = {"model": default.model, "train": default.train}
    assert recipe.model_copy(update=same) == default


def test_the_recipe_original_is_the_original_to_the_letter() -> None:
    flat = compose(ROOT, ["recipe=original"]).flat()
    expected = {
        "model.embedding_size": 0,
        "model.initialization": "uniform",
        "model.forget_gate_bias": 0.0,
        "model.hidden_size": 256,
        "model.num_layers": 2,
        "model.feed_forward_size": 0,
        "train.batching": "sliding_windows",
        "train.window_stride": 1,
        "train.context_len": 100,
        "train.batch_size": 64,
        "train.state_reset_probability": 0.0,
        "train.gradient_clip_norm": 5.0,
        "train.validation": "sliding",
        "train.validation_context_len": 100,
        "train.optimizer": "adamw",
        "train.weight_decay": 0.0,
        "train.adam_beta1": 0.9,
        "train.adam_beta2": 0.999,
        "train.learning_rate": 0.001,
        "train.warmup_steps": 0,
        "train.final_learning_rate_fraction": 1.0,
        "train.dropout.style": "elementwise",
        "train.dropout.embedding": 0.0,
        "train.dropout.between_layers": 0.1,
        "train.dropout.output": 0.0,
        "train.ema_decay": 0.0,
        "train.epochs": 5,
    }
    assert {name: flat[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["recipe=nosuch"], "nosuch"),
        (["train.lr=0.1"], "lr"),
        (["train.epochs=0"], "train.epochs"),
        (["recipe=quick", "train.seed=2"], "--seed"),
    ],
)
def test_an_impossible_override_is_one_line(overrides: list[str], expected: str) -> None:
    with pytest.raises(ParamsError, match=expected) as caught:
        Trial(tuple(overrides)).params()
    assert "\n" not in str(caught.value)


def test_a_benchmark_ends_with_2_after_bad_input() -> None:
    done = subprocess.run([*PYTHON, "benchmarks.trials", "train.epochs=0"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


def test_a_record_holds_for_its_parameters_and_data_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "data_md5", lambda: PUBLISHED_DATA)  # the checkout may be at another text
    trial = Trial(("recipe=quick",))
    record = trial.record()
    assert record is not None and record["seed"] == 1
    assert Trial(("recipe=quick", "train.epochs=3")).record() is None
    monkeypatch.setattr(trials, "data_md5", lambda: "another text's")
    assert trial.record() is None


@pytest.mark.parametrize(("stop_after_epoch", "starts"), [(1, [0, 7]), (2, [0])])
def test_a_trial_that_is_stopped_loses_nothing(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch, stop_after_epoch: int, starts: list[int]
) -> None:
    """2999 pairs in 32 streams of 94, by 16, are 6 steps an epoch: it stops after the next step, or with the record."""
    found_starts = []

    class Watch(TrainingConsole):
        def on_start(self, plan: Plan, progress: Progress) -> None:
            found_starts.append(progress.step)
            super().on_start(plan, progress)

        def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
            if row.epoch == stop_after_epoch and len(found_starts) == 1:
                os.kill(os.getpid(), signal.SIGTERM)

    vocab = Vocab.of(text)
    data = Data(EncodedText(vocab.encode(text[:3000])), EncodedText(vocab.encode(text[3000:3500])), vocab)
    for name, value in {
        "TrainingConsole": Watch,
        "load_data": lambda: data,
        "data_md5": lambda: "some text's",
        "fingerprint_of_inputs": lambda *_: "folder",
        "CHECKPOINTS": tmp_path / "trials",
        "MODELS": tmp_path / "models",
    }.items():
        monkeypatch.setattr(trials, name, value)
    trial = Trial(("recipe=quick", "model.hidden_size=8", "train.context_len=16", "train.warmup_steps=0"))
    records = tmp_path / "records.jsonl"
    with pytest.raises(Interrupted):
        trials.run(trial, records)
    assert records.exists() == (stop_after_epoch == 2)
    assert trials.run(trial, records)["epochs"] == 2
    assert found_starts == starts
    assert trial.record(records) is not None
    assert list((tmp_path / "trials").glob("*/step-*")) == []


def test_the_original_is_put_beside_our_epochs() -> None:
    ours = pd.DataFrame({"epoch": [1, 2], "train_nats_per_char": [2.0, 1.5], "val_nats_per_char": [1.9, 0.3]})
    beside = beside_the_original(ours)
    assert beside["original_val_nats_per_char"].tolist() == [1.6052, 1.5432, 1.5285, 1.5252, 1.5290]
    assert beside["val_nats_per_char"].tolist()[:2] == [1.9, 0.3]
    assert beside["val_nats_per_char"].isna().tolist() == [False, False, True, True, True]
