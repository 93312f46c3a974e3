"""The table of recipes: each is trained as a DVC experiment, with the text that `params.yaml` has.

Usage: python -m benchmarks.recipes [NAME ...] [--seeds 3] [--show]

`original` takes hours, and has a table of its own, too: its losses after each epoch next to the published ones, by the
original's measure. Finished trainings are kept in `benchmarks/records/recipes.jsonl`, and not repeated while the text
and the recipe's values are the same; `--show` trains nothing. A training that was interrupted resumes.
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
from pipeline.run.stage import guarded
from tests.support.projects import ROOT

RECORDS = ROOT / "benchmarks/records/recipes.jsonl"
ORIGINAL_TOLERANCE = 0.02  # nats/char, of each epoch's loss
ORIGINAL_TRAIN_NATS_PER_CHAR = (
    1.6597,
    1.3996,
    1.3330,
    1.2937,
    1.2665,
)  # where the validation losses were published
PROTOCOLS = ("windowed_100", "windowed_256", "stateful")
Record = dict[str, Any]


def main() -> int:
    """Train what is missing and print Markdown tables; the exit code is 1 if an epoch of `original` is too far off."""
    available = names(RECIPES, ROOT)
    parser = new_parser(__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(available)}; all if none is given"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, help="trainings of each, with the seeds 1, 2, ..."
    )
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


def values_of(name: str) -> dict[str, object]:
    """All that a recipe decides, by dotted name."""
    return dict(load(RECIPES, name, ROOT).values)


def record_of(name: str, seed: int, data: str) -> Record | None:
    """The last record of the recipe as it is now. `data` is DVC's hash of the encoded text."""
    found, values = None, values_of(name)
    for record in map(json.loads, RECORDS.read_text().splitlines()):
        is_same = all(values.get(key, value) == value for key, value in record["values"].items())
        if is_same and (record["recipe"], record["seed"], record["data"]) == (name, seed, data):
            found = record
    return found


def train(name: str, seed: int, data: str) -> Record:
    """Train and evaluate, and keep the figures.

    Raises:
        SystemExit: DVC failed.
    """
    experiment, values, seconds = f"recipe-{name}-{seed}", values_of(name), ""
    changes = [
        f"-S{key}={json.dumps(value)}" for key, value in {**values, "train.seed": seed}.items()
    ]
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

    losses, epochs = (
        json.loads(read("evaluate/metrics.json")),
        pd.read_csv(io.StringIO(read("train/history.csv"))),
    )
    commit = subprocess.check_output(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True
    ).strip()
    record = {"recipe": name, "seed": seed, "data": data, "commit": commit, "values": values}
    record |= {protocol: round(losses[protocol]["nats_per_char"], 6) for protocol in PROTOCOLS} | {
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
    """Of the table of recipes."""
    trainings = pd.DataFrame(records)
    losses = [mean_and_deviation(list(trainings[protocol])) for protocol in PROTOCOLS]
    size, seconds = trainings["num_parameters"].iloc[0], trainings["train_seconds"].median()
    return [f"`{name}`", str(len(trainings)), f"{size:,}", f"{seconds:,.0f}", *losses]


def against_the_original(record: Record) -> int:
    """Print the losses of each epoch; 1 if one is too far off, or missing."""
    columns = (
        ORIGINAL_VAL_NATS_PER_CHAR,
        record["by_epoch"],
        ORIGINAL_TRAIN_NATS_PER_CHAR,
        record["train_by_epoch"],
    )
    rows = list(zip(*columns, strict=False))
    console.print()
    print_table(
        ("sliding_100, published", "recipe `original`", "training, published", "recipe `original`"),
        ([f"{loss:.4f}" for loss in losses] for losses in rows),
    )
    is_close = all(abs(ours - theirs) <= ORIGINAL_TOLERANCE for theirs, ours, *_ in rows)
    return int(not is_close or len(record["by_epoch"]) != len(ORIGINAL_VAL_NATS_PER_CHAR))


if __name__ == "__main__":
    sys.exit(guarded(main))
