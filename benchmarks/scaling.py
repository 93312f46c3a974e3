"""What sharing a training brings: on paper for 2, 8 and 64 GPUs, and measured for two processes on this CPU.

Usage: python -m benchmarks.scaling [--flops 4e14 ...] [--here [--rounds 5]]

Needs no GPU. Work and bytes are counted from the sizes of the models; what a machine does in a second is assumed, and
each assumption is an option with its source (`--help`).

A step is: gradients of a process's rows, one all-reduce of them, a process's share of Muon's products, one all-gather
of the updates, and what every process repeats. Nothing overlaps, so this is an upper bound of what sharing costs.
Rows are the global batch: the speed-up is that of the same step, with the same losses.

`--here` measures two processes with one thread each against one with two, over gloo. It needs the encoded corpus
(`dvc repro encode`) and two cores. The default recipe for its first steps; variants take turns, since a machine's speed
changes: a ratio is to one process of the same round, and all figures are medians of the rounds. In each, speed and
processor time (of all threads together) are those of the median step.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness import console, new_parser, print_table
from benchmarks.projects import ROOT, compose, torchrun
from benchmarks.training import learner_of
from benchmarks.trials import load_data
from charlstm.evaluation.windows import windowed
from charlstm.model.char_lstm import weight_shapes
from charlstm.optimization.muon import num_flops, shares
from charlstm.params import Params, load_params
from charlstm.training.learner import shape_of
from charlstm.training.processes import Processes
from pipeline.stage.stage import guarded

VOCAB_SIZE = 65  # tiny Shakespeare
LARGE = tuple(f"model.{name}" for name in ("num_layers=2", "hidden_size=1856", "feed_forward_size=1856"))
MODELS = {"`quick`": ("recipe=quick",), "`best`": ("recipe=best",), "2×1,856": ("recipe=teacher", *LARGE)}
NUMS_OF_GPUS = (2, 8, 64)
WORTH_IT = 0.8  # of N times the speed
MAX_ROWS = 2**24
OPERATIONS_OF_PRODUCTS, OPERATIONS_OF_A_STEP = 12, 5  # kernels for a matrix: shared out, and repeated by everyone
PASSES = 10  # over 4 bytes of a weight: gradient norm, momentum, optimizer
ASSUMPTIONS = (
    ("flops", 4e14, "products in bf16, a second: 40 %% of the 989e12 of NVIDIA's data sheet of the H100 SXM"),
    ("memory", 3.35e12, "bytes a second: the same data sheet"),
    ("time-step", 1e-5, "seconds of a layer's time step: two dependent kernels; a guess, not measured"),
    ("kernel", 5e-6, "seconds of a small kernel with its launch; a guess, not measured"),
    ("latency", 7e-6, "seconds of a collective call per doubling of GPUs, 21 us for 8; a guess, not measured"),
    ("link", 4.5e11, "bytes a second within a node: NVLink 4, half of the data sheet's 900e9 in both directions"),
    ("far-link", 5e10, "bytes a second between nodes: 400 Gbit/s for each GPU, as in NVIDIA's DGX H100"),
    ("per-node", 8, "GPUs of a node: a DGX H100 has 8"),
)
NUM_STEPS, NUM_WARM_UP_STEPS = 200, 20
VARIANTS = {
    "1 process, 2 threads": (1, "none"),
    "2 processes": (2, "none"),
    "2 processes, `train.gradient_compression: fp16`": (2, "fp16"),
}


class Machine(NamedTuple):
    """What one process does in a second, and what it waits for."""

    flops: float  # a second
    memory: float  # bytes a second
    time_step: float  # seconds of a layer's step along the text, forward or backward, without its products
    kernel: float  # seconds of an operation at least
    latency: float  # seconds of a collective call, for each doubling of the processes
    link: float  # bytes a second to a process on the same node
    far_link: float  # to one on another
    per_node: int  # processes


class Work(NamedTuple):
    """What is to be done, from the sizes alone."""

    num_weights: int
    flops_per_char: int
    recurrent_weights: int
    matrices: list[tuple[int, int]]
    num_layers: int
    num_rows: int
    context_len: int


class Seconds(NamedTuple):
    """Where the time of a step goes."""

    gradients: float
    muon: float
    repeated: float
    all_reduce: float
    all_gather: float


def work_of(params: Params) -> Work:
    """Of one step with Muon; an embedding is looked up, and each matrix costs a product forward and two backward."""
    shape = shape_of(VOCAB_SIZE, params.model)
    sizes = weight_shapes(shape)
    matrices = [
        size for name, size in sizes.items() if len(size) == 2 and name.startswith(("layers.", "feed_forward."))
    ]
    head = math.prod(sizes["head.weight"]) * params.train.dropout.output_samples
    return Work(
        num_weights=sum(math.prod(size) for size in sizes.values()),
        flops_per_char=6 * (sum(rows * columns for rows, columns in matrices) + head),
        recurrent_weights=shape.num_layers * 4 * shape.hidden_size**2,
        matrices=[(rows, columns) for rows, columns in matrices],
        num_layers=shape.num_layers,
        num_rows=params.train.batch_size,
        context_len=params.train.context_len,
    )


def bytes_of_updates(work: Work, num_processes: int) -> int:
    """Of one process's message in bf16: as long as the longest."""
    by_rank = shares([num_flops(*matrix) for matrix in work.matrices], num_processes)
    return 2 * max(sum(math.prod(work.matrices[piece]) for piece in share) for share in by_rank)


def seconds(work: Work, machine: Machine, num_processes: int, num_rows: int) -> Seconds:
    """Of the slowest process's step."""
    costs = [num_flops(*matrix) for matrix in work.matrices]
    products = [max(cost / machine.flops, OPERATIONS_OF_PRODUCTS * machine.kernel) for cost in costs]
    passes = 4 * PASSES * work.num_weights / machine.memory
    all_reduce, all_gather = 0.0, 0.0
    if num_processes > 1:
        latency = machine.latency * math.log2(num_processes)
        link = machine.link if num_processes <= machine.per_node else machine.far_link
        all_reduce = latency + 2 * (num_processes - 1) / num_processes * 4 * work.num_weights / link
        all_gather = latency + (num_processes - 1) * bytes_of_updates(work, num_processes) / link
    return Seconds(
        gradients=_seconds_of_gradients(work, machine, -(-num_rows // num_processes)),
        muon=max(sum(products[piece] for piece in share) for share in shares(costs, num_processes)),
        repeated=passes + len(costs) * OPERATIONS_OF_A_STEP * machine.kernel,
        all_reduce=all_reduce,
        all_gather=all_gather,
    )


def _seconds_of_gradients(work: Work, machine: Machine, num_rows: int) -> float:
    """Products, or reading the recurrent weights anew at each time step where rows are few; and the time steps."""
    products = work.flops_per_char * num_rows * work.context_len / machine.flops
    reading = 2 * work.context_len * 2 * work.recurrent_weights / machine.memory
    return max(products, reading) + 2 * work.num_layers * work.context_len * machine.time_step


def speed_up(work: Work, machine: Machine, num_processes: int, num_rows: int) -> float:
    """Over one process with the same global batch."""
    return sum(seconds(work, machine, 1, num_rows)) / sum(seconds(work, machine, num_processes, num_rows))


def rows_worth_it(work: Work, machine: Machine, num_processes: int) -> int | None:
    """The smallest power of two, at least a row each, at which `num_processes` are used to `WORTH_IT`."""
    num_rows = 1
    while num_rows < num_processes:
        num_rows *= 2
    while num_rows <= MAX_ROWS:
        if speed_up(work, machine, num_processes, num_rows) >= WORTH_IT * num_processes:
            return num_rows
        num_rows *= 2
    return None


def main() -> int:
    """Print a Markdown table."""
    parser = new_parser(__doc__)
    for name, default, source in ASSUMPTIONS:
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{source} (default: {default:g})")
    parser.add_argument("--here", action="store_true", help="measure two processes on this CPU")
    parser.add_argument("--rounds", type=int, default=5, help="of --here")
    parser.add_argument("--compression", help=argparse.SUPPRESS)  # --here runs its variants by this
    arguments = parser.parse_args()
    if arguments.compression is not None:
        _take_steps(arguments.compression)
    elif arguments.here:
        compare_here(arguments.rounds)
    else:
        machine = Machine(*(getattr(arguments, name) for name in Machine._fields))
        columns = (
            "model", "weights", "GPUs", "gradients", "updates of each", "batch of the recipe", "ms a step", "speed-up",
            f"batch worth it ({WORTH_IT:.0%})", "speed-up there",
        )  # fmt: skip
        works = {name: work_of(compose(ROOT, overrides)) for name, overrides in MODELS.items()}
        print_table(
            columns,
            (
                [name, f"{work.num_weights:,}", str(num_gpus), *_cells(work, machine, num_gpus)]
                for name, work in works.items()
                for num_gpus in NUMS_OF_GPUS
            ),
        )
    return 0


def _cells(work: Work, machine: Machine, num_gpus: int) -> list[str]:
    cells = [f"{4 * work.num_weights / 1e6:.1f} MB", f"{bytes_of_updates(work, num_gpus) / 1e6:.2f} MB"]
    cells.append(f"{work.num_rows} × {work.context_len}")
    if num_gpus <= work.num_rows:
        cells.append(f"{1000 * sum(seconds(work, machine, num_gpus, work.num_rows)):.2f}")
        cells.append(f"{speed_up(work, machine, num_gpus, work.num_rows):.2f}×")
    else:
        cells += ["fewer rows than GPUs", "none"]
    rows = rows_worth_it(work, machine, num_gpus)
    worth = ["none", "none"] if rows is None else [f"{rows:,}", f"{speed_up(work, machine, num_gpus, rows):.1f}×"]
    return cells + worth


def compare_here(num_rounds: int) -> None:
    """Run every variant and print a Markdown table. The losses are the same in each round."""
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for _ in range(num_rounds):
        for name, variant in VARIANTS.items():
            measured[name].append(_run(*variant))
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


def _run(world: int, compression: str) -> dict[str, float]:
    """What one variant measures of itself."""
    done = subprocess.run(
        [*torchrun(world), "-m", "benchmarks.scaling", "--compression", compression],
        env={**os.environ, "OMP_NUM_THREADS": str(2 // world)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures | {"processor": world * figures["processor"]}


def _take_steps(compression: str) -> None:
    """Be one of the processes that are measured."""
    params, data = load_params(Path("params.yaml")), load_data()
    processes = Processes(params.train.precision, compression=compression)
    learner = learner_of(params, data.train, len(data.vocab), processes)
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
