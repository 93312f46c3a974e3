"""On paper: what 2, 8 and 64 GPUs would bring, and from which batch on they are worth their communication.

Usage: python -m benchmarks.scaling [--flops 4e14 ...] [--here]

Needs no GPU. Work and bytes are counted from the sizes of the models; what a machine does in a second is assumed, and
each assumption is an option with its source (`--help`). `--here` measures the same figures on this CPU (it needs two
cores and the encoded corpus) and predicts what `benchmarks.communication` measures for two processes.

A step is: gradients of a process's rows, one all-reduce of them, a process's share of Muon's products, one all-gather
of the updates, and what every process repeats. Nothing overlaps, so this is an upper bound of what sharing costs.
Rows are the global batch: the speed-up is that of the same step, with the same losses.
"""

import argparse
import math
import sys
from typing import NamedTuple

from rich.console import Console

from benchmarks.projects import ROOT, compose
from charlstm.model.char_lstm import weight_shapes
from charlstm.optimization.muon import num_flops, shares
from charlstm.params import Params
from charlstm.training.learner import shape_of
from pipeline.stage.stage import guarded

VOCAB_SIZE = 65  # tiny Shakespeare
LARGE = tuple(f"model.{name}" for name in ("num_layers=2", "hidden_size=1856", "feed_forward_size=1856"))
MODELS = {"`quick`": ("recipe=quick",), "`best`": ("recipe=best",), "2×1,856": ("recipe=teacher", *LARGE)}
NUMS_OF_GPUS = (2, 8, 64)
WORTH_IT = 0.8  # of N times the speed
MAX_ROWS = 2**24
OPERATIONS_OF_PRODUCTS, OPERATIONS_OF_A_STEP = 12, 5  # kernels for a matrix: shared out, and repeated by everyone
PASSES = 10  # over 4 bytes of a weight: gradient norm, momentum, optimizer


class Machine(NamedTuple):
    """What one process does in a second, and what it waits for."""

    flops: float  # a second, of forward and backward passes
    muon_flops: float  # a second, of Muon's products
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
    products = [max(cost / machine.muon_flops, OPERATIONS_OF_PRODUCTS * machine.kernel) for cost in costs]
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
    """Print Markdown tables."""
    arguments = _arguments()
    console = Console(highlight=False, soft_wrap=True)
    if arguments.here:
        from benchmarks.scaling_here import print_here

        return print_here(console)
    names = ("memory", "time_step", "kernel", "latency", "link", "far_link", "per_node")
    flops = {"flops": arguments.flops, "muon_flops": arguments.flops}
    machine = Machine(**flops, **{name: getattr(arguments, name) for name in names})
    console.print(
        "| model | weights | GPUs | gradients | updates of each | batch of the recipe | ms a step | speed-up "
        f"| batch worth it ({WORTH_IT:.0%}) | speed-up there |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for name, overrides in MODELS.items():
        work = work_of(compose(ROOT, overrides))
        for num_gpus in NUMS_OF_GPUS:
            console.print(f"| {name} | {work.num_weights:,} | {num_gpus} | {_row(work, machine, num_gpus)} |")
    return 0


def _row(work: Work, machine: Machine, num_gpus: int) -> str:
    cells = [f"{4 * work.num_weights / 1e6:.1f} MB", f"{bytes_of_updates(work, num_gpus) / 1e6:.2f} MB"]
    cells.append(f"{work.num_rows} × {work.context_len}")
    if num_gpus <= work.num_rows:
        cells.append(f"{1000 * sum(seconds(work, machine, num_gpus, work.num_rows)):.2f}")
        cells.append(f"{speed_up(work, machine, num_gpus, work.num_rows):.2f}×")
    else:
        cells += ["fewer rows than GPUs", "none"]
    rows = rows_worth_it(work, machine, num_gpus)
    cells += ["none", "none"] if rows is None else [f"{rows:,}", f"{speed_up(work, machine, num_gpus, rows):.1f}×"]
    return " | ".join(cells)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--here", action="store_true", help="measure this CPU and predict two processes on it")
    for option, default, source in (
        ("flops", 4e14, "products in bf16, a second: 40 %% of the 989e12 of NVIDIA's data sheet of the H100 SXM"),
        ("memory", 3.35e12, "bytes a second: the same data sheet"),
        ("time-step", 1e-5, "seconds of a layer's time step: two dependent kernels; a guess, not measured"),
        ("kernel", 5e-6, "seconds of a small kernel with its launch; a guess, not measured"),
        ("latency", 7e-6, "seconds of a collective call per doubling of GPUs, 21 us for 8; a guess, not measured"),
        ("link", 4.5e11, "bytes a second within a node: NVLink 4, half of the data sheet's 900e9 in both directions"),
        ("far-link", 5e10, "bytes a second between nodes: 400 Gbit/s for each GPU, as in NVIDIA's DGX H100"),
    ):
        parser.add_argument(f"--{option}", type=float, default=default, help=f"{source} (default: {default:g})")
    parser.add_argument("--per-node", type=int, default=8, help="GPUs of a node: a DGX H100 has 8 (default: 8)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(guarded(main))
