"""Recipes as they are on real texts, beside n-grams and compressors: do the choices of tiny Shakespeare hold elsewhere?

Usage: python -m benchmarks.corpora TEXT... [--recipe quick] [--recipe nanogpt] [--speed] [--show]

A TEXT is a UTF-8 file; its name is that of the corpus. Its first 80 % train, the next 10 % validate, the last 10 %
test. Nothing is chosen by the test part. A model reads it once, at the end, by the protocol `stateful`. The score is
kept in `benchmarks/records/corpora.jsonl`: the same text, recipe and code are not scored again. A killed training
resumes where it was. `benchmarks/records/corpora.yaml` says where the texts come from. `--speed` measures how fast
training steps are, which means something only on a quiet machine. `--show` prints the table of what is recorded.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmarks.held_out import RECORDS, SPEEDS, HeldOut, measure, measure_speed
from pipeline.common.stage import guarded

COLUMNS = (
    "text", "script", "MB", "characters", "alphabet", "recipe", "epochs", "seconds", "characters a second",
    "test, nats/char", "test, bits/char", "best n-gram", "xz", "zstd",
)  # fmt: skip


def main() -> int:
    """Measure what is not recorded yet, and print one Markdown table of all records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", metavar="TEXT", type=Path, help="UTF-8 files")
    parser.add_argument("--recipe", action="append", help="of conf/recipe/; may be repeated; quick if none is given")
    parser.add_argument("--speed", action="store_true", help="measure only how fast training steps are")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    recipes = arguments.recipe or ["quick"]
    if not arguments.show:
        for text in arguments.texts:
            for recipe in recipes:
                (measure_speed if arguments.speed else measure)(HeldOut(text, recipe), console)
    console.print(table())
    return 0


def table() -> str:
    """All records as Markdown, by the size of the text; of several of a text and a recipe, the last."""
    records = newest(RECORDS)
    if len(records) == 0:
        return "nothing is recorded yet"
    speeds = newest(SPEEDS)
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for _, record in records.sort_values(["num_bytes", "corpus", "recipe"]).iterrows():
        same = speeds[(speeds["corpus"] == record["corpus"]) & (speeds["recipe"] == record["recipe"])]
        lines.append(_row(record, "" if len(same) == 0 else f"{same.iloc[-1]['chars_per_second']:,.0f}"))
    return "\n".join(lines)


def newest(file: Path) -> pd.DataFrame:
    """The last record of each text and recipe."""
    columns = ["corpus", "recipe"]
    known = pd.read_json(file, lines=True) if file.exists() and file.stat().st_size > 0 else pd.DataFrame()
    return known.drop_duplicates(columns, keep="last") if len(known) > 0 else pd.DataFrame(columns=columns)


def _row(record: pd.Series, chars_per_second: str) -> str:
    baselines = record["test_baselines"]
    ngrams = {name: bits for name, bits in baselines.items() if name.endswith("-gram")}
    best = min(ngrams, key=lambda name: ngrams[name])
    cells = (
        record["corpus"], record["script"], f"{record['num_bytes'] / 1e6:.1f}", f"{record['num_chars']:,}",
        f"{record['alphabet']:,}", f"`{record['recipe']}`", str(record["epochs"]), f"{record['train_seconds']:,.0f}",
        chars_per_second, f"{record['test_nats_per_char']:.4f}", f"{record['test_bits_per_char']:.4f}",
        f"{ngrams[best]:.4f} ({best})", f"{baselines['xz']:.4f}", f"{baselines['zstd']:.4f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(guarded(main))
