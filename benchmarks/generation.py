"""How fast texts are written, beside `nn.LSTM` fed with what it drew.

Usage: python -m benchmarks.generation [--model artifacts/model]

The table is what a user has: `charlstm.load(...).generate(...)` in new processes, after one that compiles into an empty
folder. `nn.LSTM` is stepped in the same processes, in turns. Figures are medians.

Shapes: B rows, H hidden units.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

import charlstm
from benchmarks.harness import console, new_parser, print_table, seconds_of
from benchmarks.projects import PYTHON, ROOT
from pipeline.stage.stage import guarded

NUM_ROUNDS = 3
USES: dict[str, tuple[dict[str, Any], int]] = {  # what is asked for, and characters in all
    "20 characters, with all that is loaded or compiled for them": ({"num_chars": 20}, 20),
    "one text of 3,000 characters": ({"num_chars": 3000}, 3000),
    "18 texts of 500 characters, as in stage sample": ({"num_chars": 500, "num_texts": 18}, 18 * 500),
    "256 texts of 500 characters": ({"num_chars": 500, "num_texts": 256}, 256 * 500),
    "a prompt of 1 MB": ({"num_chars": 1, "prompt": "\n" * 10**6}, 10**6),
}
PLAIN = {"`nn.LSTM`, one text of 1,000 characters": (1, 1000), "`nn.LSTM`, 256 texts of 40 characters": (256, 40)}


def main() -> int:
    """Measure and print."""
    parser = new_parser(__doc__)
    parser.add_argument("--model", type=Path, default=Path("artifacts/model"))
    parser.add_argument("--be-measured", action="store_true", help="only print the seconds of each use")
    arguments = parser.parse_args()
    if arguments.be_measured:
        _write_texts(arguments.model)
        return 0
    command = [*PYTHON, "benchmarks.generation", "--model", str(arguments.model), "--be-measured"]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
        said = [subprocess.check_output(command, env=environment) for _ in range(1 + NUM_ROUNDS)]
    first, *later = map(json.loads, said)
    console.print(f"compiled once for this machine: the first 20 characters took {first[next(iter(USES))]:.1f} s\n")
    num_chars = {use: number for use, (_, number) in USES.items()}
    num_chars |= {use: num_rows * length for use, (num_rows, length) in PLAIN.items()}
    seconds = {use: statistics.median(figures[use] for figures in later) for use in num_chars}
    rows = ((use, f"{seconds[use]:.2f}", f"{num_chars[use] / seconds[use]:,.0f}") for use in num_chars)
    print_table(("in a new process", "seconds", "characters a second"), rows)
    return 0


def _write_texts(folder: Path) -> None:
    """Print the seconds of each use as JSON."""
    model = charlstm.load(folder)
    seconds = {use: seconds_of(lambda: model.generate(**options)) for use, (options, _) in USES.items()}  # noqa: B023
    for use, (num_rows, num_chars) in PLAIN.items():
        seconds[use] = seconds_of(lambda: _write_with_plain_lstm(model.info, num_rows, num_chars))  # noqa: B023
    sys.stdout.write(json.dumps(seconds))


@torch.inference_mode()
def _write_with_plain_lstm(info: dict[str, int], num_rows: int, num_chars: int) -> None:
    """`nn.LSTM`, fed with what it drew: what somebody would write in torch. Without a feed-forward block."""
    embedding = nn.Embedding(info["vocab_size"], info["embedding_size"])
    lstm = nn.LSTM(info["embedding_size"], info["hidden_size"], info["num_layers"], batch_first=True)
    head = nn.Linear(info["hidden_size"], info["vocab_size"])
    ids_B1, state = torch.zeros(num_rows, 1, dtype=torch.int64), None
    written = []
    for _ in range(num_chars):
        hidden_B1H, state = lstm(embedding(ids_B1), state)
        ids_B1 = torch.multinomial(head(hidden_B1H[:, 0]).softmax(1), 1)
        written.append(ids_B1)
    torch.cat(written, 1).tolist()


if __name__ == "__main__":
    sys.exit(guarded(main))
