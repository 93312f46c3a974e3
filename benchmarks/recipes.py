"""Table of recipes: each is trained as a DVC experiment on the text of `params.yaml`.

Usage: python -m benchmarks.recipes [NAME ...] [--seeds 3] [--show]

`original` takes hours. A second table compares its losses after each epoch with the published
losses. `benchmarks/records/recipes.jsonl` records finished runs, which are not repeated while the
text and the recipe's values are the same. `--show` trains nothing. An interrupted run resumes.
"""

import io
import json
import re
import subprocess
import sys
from typing import Any

import dvc.api
import pandas as pd

from benchmarks.harness import console, new_parser, print_table
from charlstm.evaluation.difference import mean_and_deviation
from charlstm.evaluation.plots import ORIGINAL_VAL_NATS_PER_CHAR
from charlstm.files.documents import load_yaml
from pipeline.recipes import RECIPES, load, names
from pipeline.run.stage import errors_reported
from tests.support.projects import ROOT

RECORDS = ROOT / "benchmarks/records/recipes.jsonl"
ORIGINAL_TOLERANCE = 0.02  # nats/char, of each epoch's loss
# Published with the validation losses.
ORIGINAL_TRAIN_NATS_PER_CHAR = (1.6597, 1.3996, 1.3330, 1.2937, 1.2665)
PROTOCOLS = ("windowed_100", "windowed_256", "stateful")
Record = dict[str, Any]


def main() -> int:
    """Train missing recipes and print tables. Return 1 if `original` is too far off."""
    available = names(RECIPES)
    parser = new_parser(__doc__)
    words = f"recipes out of {', '.join(available)}; default: all"
    parser.add_argument("names", nargs="*", metavar="NAME", help=words)
    words = "runs of each recipe, with the seeds 1, 2, ..."
    parser.add_argument("--seeds", type=int, default=1, help=words)
    parser.add_argument("--show", action="store_true", help="print what is recorded, train nothing")
    arguments = parser.parse_args()
    data = load_yaml(ROOT / "dvc.lock")["stages"]["encode"]["outs"][0]["md5"]
    kept: dict[str, list[Record]] = {}
    for name in arguments.names or available:
        found = [record_of(name, seed, data) for seed in range(1, arguments.seeds + 1)]
        if not arguments.show:
            found = [
                record or train(name, seed, data) for seed, record in enumerate(found, start=1)
            ]
        kept[name] = [record for record in found if record]
    columns = ("recipe", "seeds", "parameters", "seconds of training", *PROTOCOLS)
    print_table(columns, (row(name, records) for name, records in kept.items() if records))
    return against_the_original(kept["original"][0]) if kept.get("original") else 0


def record_of(name: str, seed: int, data: str) -> Record | None:
    """Return the last record of the recipe's current values. `data` is DVC's hash of the text."""
    found = None
    values = dict(load(RECIPES, name).values)
    for record in map(json.loads, RECORDS.read_text().splitlines()):
        is_same = all(values.get(key, value) == value for key, value in record["values"].items())
        if is_same and (record["recipe"], record["seed"], record["data"]) == (name, seed, data):
            found = record
    return found


def train(name: str, seed: int, data: str) -> Record:
    """Train and evaluate a recipe. Append the figures to the records and return them.

    Raises:
        SystemExit: DVC failed.
    """
    experiment = f"recipe-{name}-{seed}"
    values = dict(load(RECIPES, name).values)
    seconds = ""
    changed = {**values, "train.seed": seed}.items()
    changes = [f"-S{key}={json.dumps(value)}" for key, value in changed]
    command = ["dvc", "exp", "run", "--temp", "--force", "--name", experiment, *changes, "evaluate"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            console.print(line.rstrip())
            if epoch := re.match(r"epoch \d+/.* ([\d.]+) s$", line.strip()):
                seconds = epoch[1]
    if process.returncode:
        raise SystemExit(process.returncode)

    def read(path: str) -> str:
        return str(dvc.api.read(f"artifacts/{path}", str(ROOT), experiment))

    losses = json.loads(read("evaluate/metrics.json"))
    epochs = pd.read_csv(io.StringIO(read("train/history.csv")))
    describe = ["git", "describe", "--always", "--dirty"]
    record: Record = {
        "recipe": name,
        "seed": seed,
        "data": data,
        "commit": subprocess.check_output(describe, cwd=ROOT, text=True).strip(),
        "values": values,
        **{protocol: round(losses[protocol]["nats_per_char"], 6) for protocol in PROTOCOLS},
        "num_parameters": json.loads(read("train/metrics.json"))["num_parameters"],
        "train_seconds": float(seconds),
        "by_epoch": epochs["val_nats_per_char"].tolist(),
        "train_by_epoch": epochs["train_nats_per_char"].tolist(),
    }
    with RECORDS.open("a") as records:
        records.write(f"{json.dumps(record)}\n")
    subprocess.run(["dvc", "exp", "remove", "--quiet", experiment], cwd=ROOT, check=True)
    return record


def row(name: str, records: list[Record]) -> list[str]:
    """Return a row of the table of recipes."""
    runs = pd.DataFrame(records)
    losses = [mean_and_deviation(list(runs[protocol])) for protocol in PROTOCOLS]
    size = runs["num_parameters"].iloc[0]
    seconds = runs["train_seconds"].median()
    return [f"`{name}`", str(len(runs)), f"{size:,}", f"{seconds:,.0f}", *losses]


def against_the_original(record: Record) -> int:
    """Print the losses of each epoch. Return 1 if a loss is too far off, or missing."""
    validation = (ORIGINAL_VAL_NATS_PER_CHAR, record["by_epoch"])
    training = (ORIGINAL_TRAIN_NATS_PER_CHAR, record["train_by_epoch"])
    rows = list(zip(*validation, *training, strict=False))
    console.print()
    ours = "recipe `original`"
    print_table(
        ("sliding_100, published", ours, "training, published", ours),
        ([f"{loss:.4f}" for loss in losses] for losses in rows),
    )
    is_close = all(abs(ours - theirs) <= ORIGINAL_TOLERANCE for theirs, ours, *_ in rows)
    return int(not is_close or len(record["by_epoch"]) != len(ORIGINAL_VAL_NATS_PER_CHAR))


if __name__ == "__main__":
    with errors_reported() as outcome:
        outcome.code = main()
    sys.exit(outcome.code)
