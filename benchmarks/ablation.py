"""What each technique is worth: the default recipe with one thing changed, after as many epochs and at equal time.

Usage: python -m benchmarks.ablation [--show]

Needs the encoded corpus (`dvc repro encode`) and about a minute a row. Finished trainings are kept in
`benchmarks/records/ablation.jsonl` and not repeated; `--show` prints what is there. Losses are windowed_100, which is
measured after every epoch. "At equal time" is where a change stands when the default recipe is done: at its own end;
if it takes over 15 % longer (less is the machine's noise) on the line between its epochs, in the middle of a schedule
that was made for more. One seed each: differences below about 0.01 may be noise.
"""

import argparse
import sys

import numpy as np
import pandas as pd
from rich.console import Console

from benchmarks.projects import ROOT
from benchmarks.trials import Trial, run
from pipeline.stage.stage import guarded

RECORDS = ROOT / "benchmarks/records/ablation.jsonl"
DEFAULT = Trial(("recipe=quick",))
NOISE = 0.15  # by which seconds differ on the same machine
TECHNIQUES = {
    "Muon for the matrices inside (Jordan et al. 2024)": ("AdamW for all", "train.optimizer=adamw"),
    "a feed-forward block (Pascanu et al. 2014)": ("none", "model.feed_forward_size=0"),
    "its size, 320": ("1536", "model.feed_forward_size=1536"),
    "momentum 0.9": ("0.95", "train.muon.momentum=0.95"),
    "Muon at every step, rate 0.03": (
        "every other, rate 0.06",
        "train.muon.every_steps=2",
        "train.muon.learning_rate=0.06",
    ),
    "an embedding of 128": ("64", "model.embedding_size=64"),
    "AdamW's rate 0.01": ("0.015", "train.learning_rate=0.015"),
    "no moving average of the weights": ("decay 0.99", "train.ema_decay=0.99"),
    "carried state, streams": ("windows of 64 from zero states", "train.batching=windows", "train.window_stride=64"),
    "state resets 0.25": ("none", "train.state_reset_probability=0"),
    "no dropout on the output": ("0.15 (locked: Gal & Ghahramani 2016)", "train.dropout.output=0.15"),
    "no dropout by time step on the output": ("0.15", "train.dropout.output=0.15", "train.dropout.style=elementwise"),
    "no averaged dropout on the output": (
        "0.15, 4 copies (Inoue 2019)",
        "train.dropout.output=0.15",
        "train.dropout.output_samples=4",
    ),
    "no dropout below the feed-forward block": ("0.2", "train.dropout.between_layers=0.2"),
    "no dropout on the embedding": ("0.05", "train.dropout.embedding=0.05"),
    "no dropout of recurrent weights": ("0.2 (Merity et al. 2018)", "train.dropout.recurrent_weights=0.2"),
    "cosine to 1 %": ("constant rate", "train.final_learning_rate_fraction=1"),
    "warm-up of 100 steps": ("none", "train.warmup_steps=0"),
    "weight decay 0.01": ("none", "train.weight_decay=0"),
    "orthogonal recurrent matrices (Saxe et al. 2014)": ("uniform, as nn.Linear", "model.initialization=uniform"),
    "forget gate bias 1 (Jozefowicz et al. 2015)": ("0", "model.forget_gate_bias=0"),
    "gradient clipping at 1": ("none", "train.gradient_clip_norm=null"),
    "batch of 32 rows": ("64, rates and all", "train.batch_size=64"),
    "64 characters back in time": ("128", "train.context_len=128"),
    "one layer": ("two, of 256", "model.num_layers=2", "model.hidden_size=256"),
    "bf16": ("fp32", "train.precision=fp32"),
}


def main() -> int:
    """Train what is missing and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true", help="print what is recorded, train nothing")
    is_shown = parser.parse_args().show
    console = Console(highlight=False, soft_wrap=True)

    def record(trial: Trial) -> pd.Series | None:
        return trial.record(RECORDS) if is_shown else run(trial, console, RECORDS)

    default = record(DEFAULT)
    if default is None:
        console.print("no training of the default recipe is recorded: run this without --show")
        return 1
    lines = [
        "| the default has | instead | after as many epochs | at equal time | seconds |",
        "|---|---|---|---|---|",
        f"| (all of it) | | {default['windowed_100']:.4f} | | {default['train_seconds']:.0f} |",
    ]
    for technique, (instead, *overrides) in TECHNIQUES.items():
        found = record(Trial((*DEFAULT.overrides, *overrides)))
        if found is not None:
            lines.append(f"| {technique} | {instead} | {_difference(found, default)} |")
    console.print("\n".join(lines))
    return 0


def _difference(found: pd.Series, default: pd.Series) -> str:
    at_end = at_time = found["windowed_100"] - default["windowed_100"]
    if found["train_seconds"] > (1 + NOISE) * default["train_seconds"]:
        seconds_an_epoch = found["train_seconds"] / found["epochs"]
        times = seconds_an_epoch * np.arange(1, found["epochs"] + 1)
        at_time = np.interp(default["train_seconds"], times, found["by_epoch"], left=np.nan) - default["windowed_100"]
    by_then = "not one epoch" if np.isnan(at_time) else f"{at_time:+.4f}"
    return f"{at_end:+.4f} | {by_then} | {found['train_seconds']:.0f}"


if __name__ == "__main__":
    sys.exit(guarded(main))
