"""Two processes with one thread each against one with two, and the ways to send less: speed and loss.

Usage: python -m benchmarks.communication [--rounds 5]

Needs the encoded corpus (`dvc repro encode`) and two cores. The default recipe for its first steps, over gloo. Variants
take turns, since a machine's speed changes: a ratio is to one process of the same round, and all figures are medians of
the rounds. In each, speed and processor time (of all threads together) are those of the median step.
Local SGD and PowerSGD are measured and not offered: the first gives each process its own weights, the second keeps a
state in the hook, and neither can resume from a checkpoint to the same bytes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.local_sgd import LocalSGD
from rich.console import Console

from benchmarks.projects import torchrun
from benchmarks.training import learner_of
from benchmarks.trials import load_data
from charlstm.evaluation.windows import windowed
from charlstm.optimization.muon import SingleProcess
from charlstm.params import load_params
from charlstm.training.processes import Processes

NUM_STEPS = 200
NUM_WARM_UP_STEPS = 20
LOCAL_SGD_STEPS = 8
VARIANTS = {
    "1 process, 2 threads": (1, "none"),
    "2 processes": (2, "none"),
    "2 processes, fp16 gradients": (2, "fp16"),
    "2 processes, PowerSGD": (2, "powersgd"),
    f"2 processes, local SGD, {LOCAL_SGD_STEPS} steps": (2, "local"),
}


def main() -> int:
    """Run every variant and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--variant", help="used inside: be one of the processes")
    arguments = parser.parse_args()
    if arguments.variant is not None:
        _train(arguments.variant)
        return 0
    console = Console(highlight=False, soft_wrap=True)
    variants = VARIANTS | ({"2 processes, bf16 gradients": (2, "bf16")} if torch.cuda.is_available() else {})
    rounds = []
    for number in range(1, arguments.rounds + 1):
        rounds.append({name: _run(*variant) for name, variant in variants.items()})
        ratios = ", ".join(f"{ratio:.2f}" for ratio in _ratios(rounds[-1]).values())
        console.print(f"round {number}: {ratios} times as fast as one process", style="dim")
    console.print(_table(rounds))
    return 0


def _run(world: int, kind: str) -> dict[str, float]:
    """What one variant measures of itself. The losses are the same in each round."""
    done = subprocess.run(
        [*torchrun(world), "-m", "benchmarks.communication", "--variant", kind],
        env={**os.environ, "OMP_NUM_THREADS": str(2 // world)},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{world} x {kind}: {done.stderr[-500:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found | {"processor": world * found["processor"]}


def _ratios(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """Speeds of a round against its first variant."""
    first = next(iter(found.values()))["speed"]
    return {name: one["speed"] / first for name, one in found.items()}


def _table(rounds: list[dict[str, dict[str, float]]]) -> str:
    """Markdown."""
    lines = [
        "| variant | characters a second | against one process | processor time of a step, all processes "
        "| loss of the last 50 steps | windowed_100 |\n|---|---|---|---|---|---|"
    ]
    for name in rounds[0]:
        found = [one[name] for one in rounds]
        ratios = [_ratios(one)[name] for one in rounds]
        speed, processor = (statistics.median(one[key] for one in found) for key in ("speed", "processor"))
        lines.append(
            f"| {name} | {speed:,.0f} | {statistics.median(ratios):.2f}× ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {1000 * processor:.1f} ms | {found[0]['train']:.4f} | {found[0]['val']:.4f} |"
        )
    return "\n".join(lines)


def _train(kind: str) -> None:
    params, data = load_params(Path("params.yaml")), load_data()
    processes = Processes(params.train.precision, compression="none" if kind == "local" else kind)
    learner = learner_of(params, data.train_ids, len(data.vocab), processes)
    if kind == "local":  # each has gradients of its own, and so makes all updates for itself
        for optimizer in learner.optimizers:
            cast(Any, optimizer).optimizer._peers = SingleProcess()
    local = LocalSGD(processes._accelerator, learner.distributed, LOCAL_SGD_STEPS) if kind == "local" else nullcontext()
    seconds, processor, losses = [], [], []
    with local as synchronizer:
        for step in range(NUM_STEPS):
            started, busy = time.perf_counter(), time.process_time()
            taken = learner.take_step(step, 1, step)
            if synchronizer is not None:
                synchronizer.step()
            seconds.append(time.perf_counter() - started)
            processor.append(time.process_time() - busy)
            assert taken is not None
            losses.append(float(processes.all_reduce_sum(taken.nats.double())) / learner.batches.num_chars(1, step))
    if processes.is_main:
        num_chars = params.train.batch_size * params.train.context_len
        found = {
            "speed": num_chars / statistics.median(seconds[NUM_WARM_UP_STEPS:]),
            "processor": statistics.median(processor[NUM_WARM_UP_STEPS:]),
            "train": statistics.mean(losses[-50:]),
            "val": windowed(learner.averaged, data.val_ids, 100).nats_per_char,
        }
        sys.stdout.write(json.dumps(found) + "\n")
    processes.close()


if __name__ == "__main__":
    sys.exit(main())
