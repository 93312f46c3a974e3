"""The recipe table: every recipe trained and measured under all three protocols, beside what others reported.

The recipe `original` has a table of its own, too: its losses after each epoch beside the published ones, by the
original's measure.

Usage: python -m benchmarks.recipes [NAME ...] [--seeds 3] [--show]

Needs the encoded corpus (`dvc repro encode`) and time: `original` takes hours. Finished trainings are kept in
`benchmarks/records/trials.jsonl` and not repeated; `--show` trains nothing. An interrupted training resumes.
"""

import argparse
import sys
from typing import NamedTuple

import pandas as pd
from rich.console import Console

from benchmarks.projects import ROOT, compose
from benchmarks.trials import Trial, run
from charlstm.evaluation.published import beside_the_original
from pipeline.stage.stage import guarded


class Target(NamedTuple):
    """What a recipe is for: a loss under a protocol, in so many seconds of training on 2 cores."""

    protocol: str
    nats_per_char: float
    seconds: float = float("inf")

    def is_met(self, found: pd.DataFrame) -> bool:
        """Whether the mean loss and the median time of these trainings are low enough."""
        is_low = found[self.protocol].mean() <= self.nats_per_char
        return bool(is_low and found["train_seconds"].median() <= self.seconds)

    def __str__(self) -> str:
        limit = f" in {self.seconds:.0f} s" if self.seconds < float("inf") else ""
        return f"{self.protocol} ≤ {self.nats_per_char}{limit}"


TARGETS = {
    "quick": [Target("windowed_100", 1.5252, 30), Target("windowed_100", 1.5194, 35)],
    "nanogpt": [Target("windowed_256", 1.4697, 45)],
    "small": [Target("windowed_256", 1.405)],
    "teacher": [Target("windowed_256", 1.41)],
    "best": [Target("windowed_256", 1.390), Target("stateful", 1.375)],
}
ORIGINAL_TOLERANCE = 0.02  # nats/char, of each epoch's loss
PROTOCOLS = ("windowed_100", "windowed_256", "stateful")


def available() -> list[str]:
    """The names of all recipes."""
    return sorted(file.stem for file in (ROOT / "conf/recipe").glob("*.yaml"))


def main() -> int:
    """Train what is missing and print a Markdown table; the exit code is 1 if a recipe misses its target."""
    names = available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all if none is given")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each, with the seeds 1, 2, ...")
    parser.add_argument("--show", action="store_true", help="print what is recorded, train nothing")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(names):
        parser.error(f"no such recipe: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if arguments.seeds < 1:
        parser.error("--seeds: expected 1 or more")
    console = Console(highlight=False, soft_wrap=True)
    rows, num_missed = [], 0
    for name in arguments.names or names:
        trials = [Trial((f"recipe={name}",), seed) for seed in range(1, arguments.seeds + 1)]
        kept = [trial.record() if arguments.show else run(trial, console) for trial in trials]
        found = pd.DataFrame([record for record in kept if record is not None])
        if len(found) == 0:
            rows.append(f"| `{name}` | 0 | | | | | | not recorded yet |")
            continue
        rows.append(_row(name, found))
        num_missed += sum(not target.is_met(found) for target in TARGETS.get(name, []))
    console.print(
        "| recipe | seeds | parameters | seconds of training | windowed_100 | windowed_256 | stateful | target |"
    )
    console.print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        console.print(row)
    published = compose(ROOT).evaluate.published
    for other in () if published is None else published.losses:
        cells = [f"{other.nats_per_char:.4f}" if other.protocol == protocol else "" for protocol in PROTOCOLS]
        console.print(f"| {other.system} | | | | {' | '.join(cells)} | |")
    if "original" in (arguments.names or names) and (record := Trial(("recipe=original",)).record()) is not None:
        num_missed += _print_beside_the_original(record, console)
    return int(num_missed > 0)


def _row(name: str, found: pd.DataFrame) -> str:
    def cell(protocol: str) -> str:
        values = found[protocol]
        return f"{values.mean():.4f}" + (f" ± {values.std():.4f}" if len(values) > 1 else "")

    goal = ", ".join(f"{target}: {'met' if target.is_met(found) else 'missed'}" for target in TARGETS.get(name, []))
    size, time = found["num_parameters"].iloc[0], f"{found['train_seconds'].median():,.0f}"
    losses = " | ".join(cell(protocol) for protocol in PROTOCOLS)
    return f"| `{name}` | {len(found)} | {size:,} | {time} | {losses} | {goal} |"


def _print_beside_the_original(record: pd.Series, console: Console) -> int:
    """A table of losses by epoch; in how many the validation loss is too far off."""
    ours = {"val_nats_per_char": record["by_epoch"], "train_nats_per_char": record["train_by_epoch"]}
    table = beside_the_original(pd.DataFrame({"epoch": range(1, record["epochs"] + 1), **ours}))
    off = table["val_nats_per_char"] - table["original_val_nats_per_char"]
    console.print(
        "\n| after epoch | sliding_100, published | recipe `original` | difference | training, published | recipe |"
    )
    console.print("|---|---|---|---|---|---|")
    for row, difference in zip(table.itertuples(), off, strict=True):
        console.print(
            f"| {row.epoch} | {row.original_val_nats_per_char:.4f} | {row.val_nats_per_char:.4f} | {difference:+.4f} "
            f"| {row.original_train_nats_per_char:.4f} | {row.train_nats_per_char:.4f} |"
        )
    return int((~(off.abs() <= ORIGINAL_TOLERANCE)).sum())  # an epoch that only one of them has is missed, too


if __name__ == "__main__":
    sys.exit(guarded(main))
