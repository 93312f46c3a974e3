"""Speed of texts for a user: `charlstm.load(...).generate(...)` in new processes.

Usage: python -m benchmarks.generation [--model artifacts/model]

The first process compiles into an empty folder. Figures are medians.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import charlstm
from benchmarks.harness import console, new_parser, print_table, seconds_of
from pipeline.run.stage import errors_reported
from tests.support.projects import PYTHON, ROOT

NUM_ROUNDS = 3
# The options of `generate`, and the number of characters in total.
USES: dict[str, tuple[dict[str, Any], int]] = {
    "20 characters, with all that is loaded or compiled for them": ({"num_chars": 20}, 20),
    "one text of 3,000 characters": ({"num_chars": 3000}, 3000),
    "18 texts of 500 characters, as in stage sample": ({"num_chars": 500, "num_texts": 18}, 9000),
    "256 texts of 500 characters": ({"num_chars": 500, "num_texts": 256}, 256 * 500),
    "a prompt of 1 MB": ({"num_chars": 1, "prompt": "\n" * 10**6}, 10**6),
}


def main() -> int:
    """Measure and print a Markdown table."""
    parser = new_parser(__doc__)
    parser.add_argument("--model", type=Path, default=Path("artifacts/model"))
    words = "only print the seconds of each use"
    parser.add_argument("--be-measured", action="store_true", help=words)
    arguments = parser.parse_args()
    if arguments.be_measured:
        model = charlstm.load(arguments.model)
        seconds = [seconds_of(partial(model.generate, **options)) for options, _ in USES.values()]
        sys.stdout.write(json.dumps(seconds))
        return 0
    command = [*PYTHON, "benchmarks.generation", "--model", str(arguments.model), "--be-measured"]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
        said = [subprocess.check_output(command, env=environment) for _ in range(1 + NUM_ROUNDS)]
    first, *later = map(json.loads, said)
    compiling = f"the first 20 characters took {first[0]:.1f} s"
    console.print(f"compiled once for this machine: {compiling}\n")
    medians = [statistics.median(values) for values in zip(*later, strict=True)]
    figures = zip(USES, medians, [number for _, number in USES.values()], strict=True)
    rows = ((use, f"{seconds:.2f}", f"{number / seconds:,.0f}") for use, seconds, number in figures)
    print_table(("in a new process", "seconds", "characters a second"), rows)
    return 0


if __name__ == "__main__":
    with errors_reported() as outcome:
        outcome.code = main()
    sys.exit(outcome.code)
