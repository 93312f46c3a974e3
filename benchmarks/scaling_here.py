"""The figures of `benchmarks.scaling` for CPU processes, measured: used by its option `--here`.

One process with one thread takes half of the rows, two processes send messages over gloo, and one process with two
threads takes whole steps. From the first two, the arithmetic of `benchmarks.scaling` predicts a step of two processes.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.projects import PYTHON, torchrun
from benchmarks.scaling import PASSES, Machine, seconds, work_of
from benchmarks.training import learner_of
from benchmarks.trials import load_data
from charlstm.optimization.muon import num_flops, orthogonalize
from charlstm.params import Params, load_params
from charlstm.training.processes import Processes
from pipeline.stage.hardware import keep_freed_memory

NUM_STEPS, NUM_WARM_UP_STEPS = 60, 10


def print_here(console: Console) -> int:
    """Measure, predict, and print a Markdown table."""
    work = work_of(load_params(Path("params.yaml")))._replace(recurrent_weights=0)  # they stay in the cache
    whole = _measure("whole", PYTHON, threads=2)["step"]
    half = _measure("half", PYTHON, threads=1)
    messages = _measure("messages", torchrun(2, "-m"), threads=1)
    link = 4 * work.num_weights / max(messages["gradients"] - messages["empty"], 1e-9)
    machine = Machine(
        flops=work.flops_per_char * (work.num_rows // 2) * work.context_len / half["gradients"],
        muon_flops=sum(num_flops(*matrix) for matrix in work.matrices) / half["products"],
        memory=4 * PASSES * work.num_weights / half["repeated"],
        time_step=0.0,
        kernel=0.0,
        latency=messages["empty"],
        link=link,
        far_link=link,
        per_node=2,
    )
    two = seconds(work, machine, 2, work.num_rows)
    console.print("| part of a step of two processes | milliseconds | from |\n|---|---|---|")
    sources = (
        f"{machine.flops / 1e9:,.0f} GFLOP/s on one core",
        f"{machine.muon_flops / 1e9:,.0f} GFLOP/s on one core",
        "momentum, weights, clipping, AdamW",
        f"{1e6 * machine.latency:,.0f} µs a message, {link / 1e9:.2f} GB/s",
        "the same",
    )
    for name, value, source in zip(two._fields, two, sources, strict=True):
        console.print(f"| {name.replace('_', ' ')} | {1000 * value:.2f} | {source} |")
    console.print(
        f"\none process with 2 threads: {1000 * whole:.1f} ms; two processes, predicted: {1000 * sum(two):.1f} ms, "
        f"{whole / sum(two):.2f}×"
    )
    return 0


def _measure(part: str, launcher: list[str], threads: int) -> dict[str, float]:
    done = subprocess.run(
        [*launcher, "benchmarks.scaling_here", part],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _steps_of(params: Params, processes: Processes) -> dict[str, float]:
    """Of one process: whole steps, their gradients, Muon's products, and what is left."""
    data = load_data()
    learner = learner_of(params, data.train_ids, len(data.vocab), processes)
    spent: list[float] = []
    whole_gradients = learner.add_gradients

    def timed(*arguments: object) -> object:
        started = time.perf_counter()
        nats = whole_gradients(*arguments)  # type: ignore[arg-type]
        spent.append(time.perf_counter() - started)
        return nats

    learner.add_gradients = timed  # type: ignore[assignment, method-assign]
    numbers = iter(range(NUM_STEPS))
    step = _median(lambda: learner.take_step(number := next(numbers), 1, number), NUM_STEPS)
    gradients = statistics.median(spent[NUM_WARM_UP_STEPS:])
    dtype = torch.bfloat16 if processes.is_bf16 else learner.dtype
    matrices = [torch.randn(matrix).to(dtype) for matrix in work_of(params).matrices]
    products = _median(lambda: [orthogonalize(matrix) for matrix in matrices], NUM_STEPS)
    return {"step": step, "gradients": gradients, "products": products, "repeated": step - gradients - products}


def _messages_of(params: Params) -> dict[str, float]:
    """Of two processes: an all-reduce of next to nothing, and one of all gradients."""
    empty, gradients = torch.zeros(1), torch.zeros(work_of(params).num_weights)
    return {
        "empty": _median(lambda: torch.distributed.all_reduce(empty), NUM_STEPS),
        "gradients": _median(lambda: torch.distributed.all_reduce(gradients), NUM_STEPS),
    }


def _median(function: Callable[[], object], count: int) -> float:
    found = []
    for _ in range(count):
        started = time.perf_counter()
        function()
        found.append(time.perf_counter() - started)
    return statistics.median(found[NUM_WARM_UP_STEPS:])


def main() -> int:
    """Be one of the processes that are measured."""
    keep_freed_memory()
    part, params = sys.argv[1], load_params(Path("params.yaml"))
    processes = Processes(params.train.precision)
    if part == "messages":
        found = _messages_of(params)
    else:
        size = params.train.batch_size // (2 if part == "half" else 1)
        train = params.train.model_copy(update={"batch_size": size})
        found = _steps_of(params.model_copy(update={"train": train}), processes)
    if processes.is_main:
        sys.stdout.write(json.dumps(found) + "\n")
    processes.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
