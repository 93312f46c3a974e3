"""How many threads a time step of the LSTM can use, and how threads should wait for each other.

Usage: python -m benchmarks.threads [--seconds 20] [--only sizes|waiting]

The first table has a layer of the LSTM in many sizes, forward and backward, with one thread and with all cores, in
turns. It shows the fastest of many short readings, since whatever else runs on the machine only slows one. The constant
WORK_PER_THREAD (`pipeline.common.hardware`) is taken from it.

The second has whole training steps of the default recipe, on the machine as it is and beside a process that is always
busy. It needs the encoded corpus (`dvc repro encode`). Each way to wait is a process of its own, since OpenMP reads its
variables once. They take turns; figures are medians.
"""

import argparse
import contextlib
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from multiprocessing.connection import Connection

import torch
from rich.console import Console

import pipeline
from benchmarks.training import SECONDS_OF_PEACE, make_learner, take_steps
from charlstm.model.gates import LSTMState
from charlstm.model.layers import FusedLayer
from charlstm.training.precision import multiplies_bf16
from pipeline.common.hardware import WORK_PER_THREAD, keep_freed_memory, num_cores, num_threads
from pipeline.common.stage import guarded

ROWS, UNITS = (4, 16, 32, 64), (32, 64, 128, 256, 320, 512)
INPUTS, TIME_STEPS, READINGS = 128, 8, 30
RECIPES = ("quick", "nanogpt", "teacher")
NUM_BUSY = (0, 1, 2, 4)  # other processes that always work
MOST_IDLE = 1.03  # of the best way's time
MOST_BUSY = 1.5  # of the time that a fair share of the cores gives: C / (C + k) of C cores beside k processes
SPIN_COUNTS = (0, 100, 300, 1_000, 3_000, 10_000, 300_000)  # the last is libgomp's default
WAYS = {f"`GOMP_SPINCOUNT={count}`": {"GOMP_SPINCOUNT": str(count)} for count in SPIN_COUNTS}
WAYS |= {"one thread": {"OMP_NUM_THREADS": "1"}}
SET = f"`GOMP_SPINCOUNT={pipeline.SPIN_COUNT}`"
VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")
ROUNDS = 3
MIN_ROUNDS = 5
BUSY = [sys.executable, "-c", "while True: pass"]


def main() -> int:
    """Measure and print two Markdown tables."""
    parser = argparse.ArgumentParser(description="How many threads a step can use, and how they should wait.")
    parser.add_argument("--seconds", type=float, default=20.0, help="of measuring, for each row of the tables")
    parser.add_argument("--only", choices=("sizes", "waiting"))
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    load = os.getloadavg()[0]
    console.print(f"{num_cores()} cores; load before: {load:.1f}{'' if load < 0.5 else ', so the machine is not idle'}")
    if arguments.only != "waiting":
        compare_sizes(console, arguments.seconds)
    if arguments.only != "sizes":
        compare_waiting(console, arguments.seconds)
    return 0


def compare_sizes(console: Console, seconds: float) -> None:
    """One thread against all cores, by rows and hidden units."""
    cores = num_cores()
    keep_freed_memory()
    console.print(
        f"\nmicroseconds of a time step with 1 and with {cores} threads; the rule takes a thread for each "
        f"{WORK_PER_THREAD:,} of rows × units²\n\n"
        f"| units | rows | rows × units² | 1 | {cores} | gain | rule |\n|---|---|---|---|---|---|---|"
    )
    for rows, units in sorted(product(ROWS, UNITS), key=lambda size: size[0] * size[1] ** 2):
        one, many = fastest_time_steps(rows, units, (1, cores), seconds)
        work = rows * units**2
        cells = units, rows, f"{work:,}", f"{1e6 * one:.0f}", f"{1e6 * many:.0f}", f"{one / many:.2f}×"
        console.print(f"| {' | '.join(map(str, cells))} | {num_threads(work, cores)} |")


def fastest_time_steps(rows: int, units: int, threads: tuple[int, ...], seconds: float) -> list[float]:
    """The fastest time step with each number of threads, taking turns for `seconds`."""
    read = reading(rows, units)
    found = dict.fromkeys(threads, float("inf"))
    started, num_rounds = time.monotonic(), 0
    while num_rounds < MIN_ROUNDS or time.monotonic() - started < seconds:
        num_rounds += 1
        for number in threads:
            torch.set_num_threads(number)
            read()
            for _ in range(READINGS):
                begun = time.perf_counter()
                read()
                found[number] = min(found[number], (time.perf_counter() - begun) / TIME_STEPS)
            time.sleep(SECONDS_OF_PEACE)  # until the threads have stopped to spin
    return list(found.values())


def reading(rows: int, units: int) -> Callable[[], None]:
    """Forward and backward over a few time steps, in the precision that `auto` means here."""
    layer, x_TBI = FusedLayer(INPUTS, units), torch.randn(TIME_STEPS, rows, INPUTS)
    state = LSTMState(*torch.zeros(2, rows, units))

    def read() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16("cpu")):
            hidden_TBH, _ = layer(x_TBI, state)
        torch.autograd.backward(hidden_TBH.float().sum())

    return read


def compare_waiting(console: Console, seconds: float) -> None:
    """Steps of recipes by how threads wait, beside more and more busy processes; and whether what is set is good."""
    cores, found = num_cores(), dict[tuple[str, str, int], float]()
    with contextlib.ExitStack() as stack:
        trainers = {way: stack.enter_context(trainer(variables)) for way, variables in WAYS.items()}
        for num_busy in NUM_BUSY:
            while_busy = stack.enter_context(contextlib.ExitStack())
            for _ in range(num_busy):
                while_busy.enter_context(busy_process())
            found |= {(recipe, way, num_busy): step for (recipe, way), step in take_turns(trainers, seconds).items()}
            while_busy.close()
    for recipe in RECIPES:
        best = min(found[recipe, way, 0] for way in WAYS)
        goals = [MOST_IDLE * best] + [MOST_BUSY * best * max(1, (cores + count) / cores) for count in NUM_BUSY[1:]]
        console.print(f"\n| `{recipe}`, ms a step | {' | '.join(f'{count} busy' for count in NUM_BUSY)} |")
        console.print(f"|{'---|' * (1 + len(NUM_BUSY))}")
        for way in WAYS:
            times = [found[recipe, way, count] for count in NUM_BUSY]
            console.print(f"| {way} | {' | '.join(f'{1000 * one:.1f}' for one in times)} |")
        console.print(f"| goal | {' | '.join(f'{1000 * goal:.1f}' for goal in goals)} |")
        shares = [found[recipe, SET, count] / goal for count, goal in zip(NUM_BUSY, goals, strict=True)]
        console.print(f"\n{SET} is set; of the goals it takes {', '.join(f'{share:.2f}' for share in shares)}")


def take_turns(trainers: dict[str, Connection], seconds: float) -> dict[tuple[str, str], float]:
    """The median seconds of a step by recipe and way; about `seconds` for each of them, in several rounds."""
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(ROUNDS):
        for recipe, (way, connection) in product(RECIPES, trainers.items()):
            connection.send((recipe, seconds / ROUNDS))
            found.setdefault((recipe, way), []).extend(connection.recv())
    return {key: statistics.median(values) for key, values in found.items()}


@contextlib.contextmanager
def trainer(variables: dict[str, str]) -> Iterator[Connection]:
    """A process with these variables that takes steps of a recipe for some seconds, and says how long each took."""
    kept = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    os.environ.update(variables)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_train, args=(there,), daemon=True)
    process.start()
    there.close()  # so that its end is seen
    for name in variables:
        del os.environ[name]
    os.environ.update(kept)
    here.recv()
    try:
        yield here
    finally:
        process.terminate()
        process.join()


def _train(connection: Connection) -> None:
    keep_freed_memory()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", num_cores())))
    steps = {recipe: take_steps(make_learner(f"recipe={recipe}")) for recipe in RECIPES}
    for step in steps.values():
        step()
    connection.send(None)
    while True:
        recipe, seconds = connection.recv()
        time.sleep(SECONDS_OF_PEACE)  # until the threads of the others have stopped to spin
        steps[recipe]()
        found, started = list[float](), time.perf_counter()
        while not found or time.perf_counter() - started < seconds:
            begun = time.perf_counter()
            steps[recipe]()
            found.append(time.perf_counter() - begun)
        connection.send(found)


@contextlib.contextmanager
def busy_process() -> Iterator[None]:
    """Another process that always works."""
    process = subprocess.Popen(BUSY)
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(guarded(main))
