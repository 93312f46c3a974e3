"""What sharing a training costs: two processes with one thread each beside one with two, over gloo, on this CPU.

Usage: python -m benchmarks.scaling [--rounds 5]

Needs the encoded corpus (`dvc repro encode`) and two cores. The default recipe for its first steps. Variants take
turns, since a machine's speed changes: a ratio is to one process of the same round, and all figures are medians of the
rounds. In each, speed and processor time (of all threads together) are those of the median step.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness import console, new_parser, print_table
from benchmarks.projects import torchrun
from benchmarks.trials import load_data
from charlstm.model.windows import windowed
from charlstm.params import load_params
from charlstm.training.learner import Learner
from charlstm.training.processes import Processes
from pipeline.stage.stage import guarded

NUM_STEPS, NUM_WARM_UP_STEPS = 200, 20
BE_MEASURED = "--be-measured"
VARIANTS = {"1 process, 2 threads": 1, "2 processes": 2}


def main() -> int:
    """Print a Markdown table."""
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(BE_MEASURED, action="store_true", help=argparse.SUPPRESS)  # in a process of a variant
    arguments = parser.parse_args()
    if arguments.be_measured:
        _take_steps()
    else:
        compare(arguments.rounds)
    return 0


def compare(num_rounds: int) -> None:
    """Run every variant and print a Markdown table. The losses are the same in each round."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for _ in range(num_rounds):
        for name, num_processes in VARIANTS.items():
            measured[name].append(_run(num_processes))
    one_process = [figures["speed"] for figures in next(iter(measured.values()))]
    columns = ("variant", "characters a second", "against one process", "processor time of a step, all processes")
    rows = []
    for name, rounds in measured.items():
        ratios = [figures["speed"] / one for figures, one in zip(rounds, one_process, strict=True)]
        speed, processor = (statistics.median(figures[key] for figures in rounds) for key in ("speed", "processor"))
        ratio = f"{statistics.median(ratios):.2f}× ({min(ratios):.2f} to {max(ratios):.2f})"
        losses = f"{rounds[0]['train']:.4f}", f"{rounds[0]['val']:.4f}"
        rows.append((name, f"{speed:,.0f}", ratio, f"{1000 * processor:.1f} ms", *losses))
    print_table((*columns, "loss of the last 50 steps", "windowed_100"), rows)


def _run(world: int) -> dict[str, float]:
    """What one variant measures of itself."""
    done = subprocess.run(
        [*torchrun(world), "-m", "benchmarks.scaling", BE_MEASURED],
        env={**os.environ, "OMP_NUM_THREADS": str(2 // world)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures | {"processor": world * figures["processor"]}


def _take_steps() -> None:
    """Be one of the processes that are measured."""
    params, data = load_params(Path("params.yaml")), load_data()
    processes = Processes(params.train.precision)
    learner = Learner(data.train, len(data.vocab), params.model, params.train, processes)
    seconds, processor, losses = [], [], []
    for step in range(NUM_STEPS):
        started, busy = time.perf_counter(), time.process_time()
        taken = learner.take_step(step, 1, step)
        seconds.append(time.perf_counter() - started)
        processor.append(time.process_time() - busy)
        assert taken is not None
        losses.append(float(processes.all_reduce_sum(taken.nats.double())) / learner.batches.num_chars(1, step))
    if processes.is_main:
        figures = {
            "speed": learner.batches.num_chars(1, 0) / statistics.median(seconds[NUM_WARM_UP_STEPS:]),
            "processor": statistics.median(processor[NUM_WARM_UP_STEPS:]),
            "train": statistics.mean(losses[-50:]),
            "val": windowed(learner.averaged, data.val, 100).nats_per_char,
        }
        console.print(json.dumps(figures))
    processes.close()


if __name__ == "__main__":
    sys.exit(guarded(main))
