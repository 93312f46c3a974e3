"""What each technique is worth: the default recipe with one thing changed, after as many epochs.

Usage: python -m benchmarks.ablation [--show]

Needs the encoded corpus (`dvc repro encode`) and about a minute a row. Finished trainings are kept in
`benchmarks/records/ablation.jsonl` and not repeated; `--show` prints what is there. Losses are windowed_100. One seed
each: differences below about 0.01 may be noise. Seconds are of the minute in which a row ran.
"""

import sys

from benchmarks.harness import console, new_parser, print_table
from benchmarks.projects import ROOT
from benchmarks.trials import Record, Trial, run
from pipeline.stage.stage import guarded

RECORDS = ROOT / "benchmarks/records/ablation.jsonl"
DEFAULT = ("recipe=quick",)
TECHNIQUES = {
    "Muon for the matrices inside (Jordan et al. 2024)": ("AdamW for all", "train.optimizer=adamw"),
    "a feed-forward block (Pascanu et al. 2014)": ("none", "model.feed_forward_size=0"),
    "its size, 320": ("1536", "model.feed_forward_size=1536"),
    "momentum 0.9": ("0.95", "train.muon.momentum=0.95"),
    "Muon's rate 0.06": ("0.04", "train.muon.learning_rate=0.04"),
    "an embedding of 128": ("64", "model.embedding_size=64"),
    "AdamW's rate 0.01": ("0.015", "train.learning_rate=0.015"),
    "a moving average of the weights": ("none", "train.ema_decay=0"),
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
    "cosine to a fifth": ("to 1 %", "train.final_learning_rate_fraction=0.01"),
    "a rate that falls": ("constant rate", "train.final_learning_rate_fraction=1"),
    "average, rate and its end together": (
        "none, 0.04, to 1 %: the default before",
        "train.ema_decay=0",
        "train.muon.learning_rate=0.04",
        "train.final_learning_rate_fraction=0.01",
    ),
    "warm-up of 100 steps": ("none", "train.warmup_steps=0"),
    "weight decay 0.04": ("none", "train.weight_decay=0"),
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
    parser = new_parser(__doc__)
    parser.add_argument("--show", action="store_true", help="print what is recorded, train nothing")
    is_shown = parser.parse_args().show

    def record_of(*overrides: str) -> Record | None:
        trial = Trial((*DEFAULT, *overrides))
        return trial.record(RECORDS) if is_shown else run(trial, RECORDS)

    default = record_of()
    if default is None:
        console.print("no training of the default recipe is recorded: run this without --show")
        return 1
    rows = [("(all of it)", "", f"{default['windowed_100']:.4f}", f"{default['train_seconds']:.0f}")]
    for technique, (instead, *overrides) in TECHNIQUES.items():
        if (record := record_of(*overrides)) is not None:
            difference = f"{record['windowed_100'] - default['windowed_100']:+.4f}"
            rows.append((technique, instead, difference, f"{record['train_seconds']:.0f}"))
    print_table(("the default has", "instead", "after as many epochs", "seconds"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
