"""The recipe table: every recipe trained and measured under all three protocols, beside what others reported.

Usage: python -m benchmarks.recipes [NAME ...] [--seeds 3] [--show]

Needs the encoded corpus (`dvc repro encode`) and time: `seed` takes hours. Finished trainings are kept in
`benchmarks/records/trials.jsonl` and not repeated; `--show` trains nothing. An interrupted training goes on.
"""

import argparse
import sys
from typing import NamedTuple

import pandas as pd
from rich.console import Console

from benchmarks.projects import ROOT
from benchmarks.trials import Trial, run
from charlstm.published import PUBLISHED


class Target(NamedTuple):
    """What a recipe is for: a loss under a protocol, in so many seconds of training on 2 cores."""

    protocol: str
    nats_per_char: float
    seconds: float = float("inf")


TARGETS = {
    "quick": Target("windowed_100", 1.5252, 120),
    "nanogpt": Target("windowed_256", 1.4697, 180),
    "small": Target("windowed_256", 1.46),
    "best": Target("windowed_256", 1.45),
}
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
    console = Console(highlight=False, soft_wrap=True)
    rows, num_missed = [], 0
    for name in arguments.names or names:
        trials = [Trial((f"recipe={name}",), seed) for seed in range(1, arguments.seeds + 1)]
        kept = [trial.record() if arguments.show else run(trial, console) for trial in trials]
        found = pd.DataFrame([record for record in kept if record is not None])
        if len(found) == 0:
            continue
        rows.append(_row(name, found))
        if (target := TARGETS.get(name)) is not None:
            num_missed += found[target.protocol].mean() > target.nats_per_char
            num_missed += found["train_seconds"].median() > target.seconds
    console.print(
        "| recipe | seeds | parameters | seconds of training | windowed_100 | windowed_256 | stateful | target |"
    )
    console.print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        console.print(row)
    for other in PUBLISHED:
        cells = [f"{other.nats_per_char:.4f}" if other.protocol == protocol else "" for protocol in PROTOCOLS]
        console.print(f"| {other.system} | | | | {' | '.join(cells)} | |")
    return int(num_missed > 0)


def _row(name: str, found: pd.DataFrame) -> str:
    def cell(protocol: str) -> str:
        values = found[protocol]
        return f"{values.mean():.4f}" + (f" ± {values.std():.4f}" if len(values) > 1 else "")

    target = TARGETS.get(name)
    goal = "" if target is None else f"{target.protocol} ≤ {target.nats_per_char}"
    if target is not None and target.seconds < float("inf"):
        goal += f" in {target.seconds:.0f} s"
    size, time = found["num_parameters"].iloc[0], f"{found['train_seconds'].median():.0f}"
    if found["hardware"].str.contains(" 1 threads").all():
        time += " on 1 core"
    losses = " | ".join(cell(protocol) for protocol in PROTOCOLS)
    return f"| `{name}` | {len(found)} | {size:,} | {time} | {losses} | {goal} |"


if __name__ == "__main__":
    sys.exit(main())
