"""A tracking server that dies or hangs: what is lost, and what tracking costs.

Usage: python -m benchmarks.tracking [--count 20] [--seed 0] [--rounds 3]

First, so many small trainings send to an MLflow server that is killed at a random moment. In every other training it
comes back while training goes on. Each must end in the same bytes, and after `charlstm sync` its run must be complete.
Then the default recipe trains without tracking, with the store of the project, and with a server that accepts
connections and never answers. They take turns. That needs the encoded corpus (`dvc repro encode`) and a quiet machine.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.tracking_cost import measure_cost
from benchmarks.tracking_kills import kill_servers
from pipeline.stage.stage import guarded


def main() -> int:
    """Measure and print; the exit code is 1 if something was lost, or costs more than its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="number of trainings whose server is killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--rounds", type=int, default=3, help="trainings of each kind whose time is taken; 0: none")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="charlstm-tracking-") as name:
        is_complete = kill_servers(Path(name), arguments.count, random.Random(arguments.seed), console)
        is_cheap = measure_cost(Path(name), arguments.rounds, console) if arguments.rounds > 0 else True
    return int(not (is_complete and is_cheap))


if __name__ == "__main__":
    sys.exit(guarded(main))
