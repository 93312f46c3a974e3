"""Recipes as they are on real texts, beside n-grams and compressors: do the choices of tiny Shakespeare hold elsewhere?

Usage: python -m benchmarks.corpora TEXT... [--recipe quick] [--recipe nanogpt] [--epochs N] [--speed] [--show]

A TEXT is a UTF-8 file; its name is that of the corpus. Its first 80 % train, the next 10 % validate, the last 10 %
test. Nothing is chosen by the test part. A model reads it once, at the end, by the protocol `stateful`. The score is
kept in `benchmarks/records/corpora.jsonl`: the same text, recipe and code are not scored again. A killed training
resumes where it was. A recipe that has teachers trains them first, on the same training part, and they are scored,
too. `--epochs` is for all of them. `benchmarks/records/corpora.yaml` says where the texts come from. `--speed` measures
how fast training steps are, which means something only on a quiet machine. `--show` prints the table of what is
recorded.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmarks.held_out import RECORDS, HeldOut, append, measure
from benchmarks.projects import ROOT
from benchmarks.training import learner_of, take_steps
from benchmarks.trials import commit, fresh_processes
from pipeline.provenance.provenance import environment
from pipeline.stage.stage import guarded

SPEEDS = ROOT / "benchmarks/records/corpora_speed.jsonl"
NUM_WARM_UP_STEPS, NUM_TIMED_STEPS = 10, 50
COLUMNS = (
    "text", "script", "MB", "characters", "alphabet", "recipe", "epochs", "seconds", "characters a second",
    "test, nats/char", "test, bits/char", "best n-gram", "xz", "zstd",
)  # fmt: skip


def main() -> int:
    """Measure what is not recorded yet, and print one Markdown table of all records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", metavar="TEXT", type=Path, help="UTF-8 files")
    parser.add_argument("--recipe", action="append", help="of conf/recipe/; may be repeated; quick if none is given")
    parser.add_argument("--epochs", type=int, help="instead of those of the recipe, and of its teachers")
    parser.add_argument("--speed", action="store_true", help="measure only how fast training steps are")
    parser.add_argument("--show", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    recipes = arguments.recipe or ["quick"]
    if not arguments.show:
        for text in arguments.texts:
            for recipe in recipes:
                (measure_speed if arguments.speed else measure)(HeldOut(text, recipe, arguments.epochs), console)
    console.print(table())
    console.print(table_of_students())
    return 0


def measure_speed(held_out: HeldOut, console: Console) -> None:
    """Characters a second of single training steps, and keep it."""
    params, (train_ids, _, _) = held_out.params(), held_out.encoded
    processes = fresh_processes(params)
    step = take_steps(learner_of(params, train_ids, len(held_out.vocab), processes))
    seconds = []
    for _ in range(NUM_WARM_UP_STEPS + NUM_TIMED_STEPS):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    chars_per_second = (
        params.train.batch_size * params.train.context_len / statistics.median(seconds[NUM_WARM_UP_STEPS:])
    )
    console.print(f"{held_out.corpus}, {held_out.recipe}: {chars_per_second:,.0f} characters a second")
    append(
        SPEEDS,
        held_out.origin()
        | {
            "commit": commit(),
            "chars_per_second": round(chars_per_second),
            "hardware": processes.describe_device(),
            "processor": environment()["hardware.processor"],
        },
    )


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


def table_of_students() -> str:
    """Students beside their teachers on the test part, as Markdown; empty if none is recorded."""
    records = newest(RECORDS)
    if "teachers" not in records:
        return ""
    lines = ["", "| text, test part | epochs | a teacher alone | their ensemble | student |", "|---|---|---|---|---|"]
    for _, record in records.dropna(subset=["teachers"]).iterrows():
        alone = pd.Series(record["teachers_test_nats_per_char"])
        cells = (
            f"{record['corpus']}, `{record['recipe']}`", str(record["epochs"]),
            f"{alone.mean():.4f} ± {alone.std():.4f} ({len(alone)} seeds)",
            f"{record['ensemble_test_nats_per_char']:.4f}", f"{record['test_nats_per_char']:.4f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def newest(file: Path) -> pd.DataFrame:
    """The last record of each text and recipe with the first seed; others are of teachers."""
    columns = ["corpus", "recipe"]
    known = pd.read_json(file, lines=True) if file.exists() and file.stat().st_size > 0 else pd.DataFrame()
    if "seed" in known:
        known = known[known["seed"].isna()]
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
