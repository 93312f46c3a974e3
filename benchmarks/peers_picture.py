"""The picture of `benchmarks.peers`: loss against time, our recipes and other projects."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from benchmarks import trials
from benchmarks.projects import ROOT
from benchmarks.recipes import available

RECORDS = ROOT / "benchmarks/records/peers.jsonl"
PICTURE = ROOT / "benchmarks/records/loss_against_time.png"
TICKS = (60, 180, 600, 1800, 3600, 10800)  # seconds


def points() -> pd.DataFrame:
    """The newest record of each system and time, and our recipes."""
    rows: list[dict[Any, Any]] = []
    if RECORDS.exists():
        rows += pd.read_json(RECORDS, lines=True).to_dict("records")
    for recipe in available():
        if (kept := trials.Trial((f"recipe={recipe}",)).record()) is not None:
            rows.append({"system": f"charlstm, {recipe}", "seconds": _seconds(recipe), **kept.to_dict()})
    found = pd.DataFrame(rows)
    return found if len(found) == 0 else found.drop_duplicates(["system", "seconds"], keep="last")


def _seconds(recipe: str) -> float:
    """Of its training, and of those of its teachers if it has some, not of what they write; NaN if one is unknown."""
    own = trials.Trial((f"recipe={recipe}",))
    teachers = own.params().teachers
    others = [trials.Trial((f"recipe={name}",), seed) for name in teachers.recipes for seed in teachers.seeds]
    records = [one.record() for one in (own, *others)]
    return sum(math.nan if record is None else float(record["train_seconds"]) for record in records)


def draw(found: pd.DataFrame, path: Path) -> None:
    """Loss against seconds; ours is one line through the recipes, since each is made for its own time.

    Not so the recipe `original`, which repeats the original's setting: a point of its own.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    is_ours = found["system"].str.startswith("charlstm, ") & ~found["system"].str.startswith("charlstm, original")
    for system, rows in found[~is_ours].groupby("system"):
        axes.plot(rows["seconds"], rows["windowed_64"], marker="o", label=str(system))
    ours = found[is_ours].sort_values("seconds")
    axes.plot(ours["seconds"], ours["windowed_64"], marker="o", color="black", linewidth=2, label="charlstm")
    for index, row in enumerate(ours.itertuples()):
        name = str(row.system).removeprefix("charlstm, ")
        place, side = (((6, 3), "left"), ((-6, -10), "right"))[index % 2]  # neighbors do not write over each other
        axes.annotate(name, (row.seconds, row.windowed_64), textcoords="offset points", xytext=place, ha=side)
    axes.set(
        xscale="log",
        xlabel="seconds of training on 2 CPU cores",
        ylabel="validation loss, windowed_64 (nats per character)",
    )
    axes.set_xticks([seconds for seconds in TICKS if seconds <= found["seconds"].max()])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})
