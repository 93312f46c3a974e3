"""How many threads a time step of the LSTM can use, and how threads should wait for each other.

Usage: python -m benchmarks.threads [--seconds 3] [--only sizes|waiting]

The first table has a layer of the LSTM in many sizes, forward and backward, with one thread and with all cores, in
turns. It shows the fastest of many short readings, since whatever else runs on the machine only slows one. The constant
WORK_PER_THREAD (`pipeline.stage.hardware`) is taken from it.

The others have whole training steps of recipes, on the machine as it is and beside processes that are always busy. They
need the encoded corpus (`dvc repro encode`). Each way to wait is a process of its own, since OpenMP reads its variables
once. They take turns; figures are medians. What trainings do (`pipeline.stage.waiting`) should be as fast as the best
way on an idle machine, and take at most 1.5 times as long as a fair share of the cores would beside busy processes.
"""

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

from benchmarks.harness import console, new_parser, print_table, seconds_of
from benchmarks.training import PAUSE_SECONDS, make_learner
from charlstm.model.gates import LSTMState
from charlstm.model.layers import FusedLayer
from charlstm.training.processes import multiplies_bf16
from pipeline.new.timing import take_steps
from pipeline.stage.hardware import WORK_PER_THREAD, keep_freed_memory, num_cores, num_threads
from pipeline.stage.stage import guarded
from pipeline.stage.waiting import OF_THE_USER, share_cores

ROWS, UNITS = (4, 16, 32, 64), (32, 64, 128, 256, 320, 512)
INPUTS, TIME_STEPS, READINGS = 128, 8, 30
RECIPES = ("quick", "best")
NUM_BUSY = (0, 1, 2, 4)  # other processes that always work
MAX_RATIO_IDLE = 1.03  # of the best way's time
MAX_RATIO_BUSY = 1.5  # of the time that a fair share of the cores gives: C / (C + k) of C cores beside k processes
SPIN_COUNTS = (0, 1_000, 300_000)  # the last is libgomp's default
AS_IT_IS = "as it is"
WAYS = {f"`GOMP_SPINCOUNT={count}`": {"GOMP_SPINCOUNT": str(count)} for count in SPIN_COUNTS}
WAYS |= {"one thread": {"OMP_NUM_THREADS": "1"}, AS_IT_IS: {}}
VARIABLES = (*OF_THE_USER, "OMP_NUM_THREADS")
ROUNDS = 6
WARM_UP_SECONDS = 0.6  # until the threads of the others have stopped to spin, and ours know whether cores are free
MIN_ROUNDS = 5
# It ends with this process, also where that is killed.
BUSY = [sys.executable, "-c", "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"]


def main() -> int:
    """Measure and print Markdown tables."""
    parser = new_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of measuring, for each row of the tables")
    parser.add_argument("--only", choices=("sizes", "waiting"))
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    console.print(f"{num_cores()} cores; load before: {load:.1f}{'' if load < 0.5 else ', so the machine is not idle'}")
    if arguments.only != "waiting":
        compare_sizes(arguments.seconds)
    if arguments.only != "sizes":
        for recipe in RECIPES:
            compare_waiting(recipe, arguments.seconds)
    return 0


def compare_sizes(seconds: float) -> None:
    """One thread against all cores, by rows and hidden units."""
    cores = num_cores()
    keep_freed_memory()
    console.print(
        f"\nmicroseconds of a time step with 1 and with {cores} threads; the rule takes a thread for each "
        f"{WORK_PER_THREAD:,} of rows × units²\n"
    )

    def cells(rows: int, units: int) -> tuple[object, ...]:
        one, many = fastest_time_steps(rows, units, (1, cores), seconds)
        work = rows * units**2
        gain = f"{one / many:.2f}×"
        return units, rows, f"{work:,}", f"{1e6 * one:.0f}", f"{1e6 * many:.0f}", gain, num_threads(work, cores)

    sizes = sorted(product(ROWS, UNITS), key=lambda size: size[0] * size[1] ** 2)
    columns = ("units", "rows", "rows × units²", "1", str(cores), "gain", "rule")
    print_table(columns, (cells(*size) for size in sizes))


def fastest_time_steps(rows: int, units: int, threads: tuple[int, ...], seconds: float) -> list[float]:
    """The fastest time step with each number of threads, taking turns for `seconds`."""
    read = reading(rows, units)
    fastest = dict.fromkeys(threads, float("inf"))
    started, num_rounds = time.monotonic(), 0
    while num_rounds < MIN_ROUNDS or time.monotonic() - started < seconds:
        num_rounds += 1
        for number in threads:
            torch.set_num_threads(number)
            read()
            fastest[number] = min(fastest[number], *(seconds_of(read) / TIME_STEPS for _ in range(READINGS)))
            time.sleep(PAUSE_SECONDS)  # until the threads have stopped to spin
    return list(fastest.values())


def reading(rows: int, units: int) -> Callable[[], None]:
    """Forward and backward over a few time steps, in the precision that `auto` means here."""
    layer, x_TBI = FusedLayer(INPUTS, units), torch.randn(TIME_STEPS, rows, INPUTS)
    state = LSTMState(*torch.zeros(2, rows, units))

    def read() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16("cpu")):
            hidden_TBH, _ = layer(x_TBI, state)
        torch.autograd.backward(hidden_TBH.float().sum())

    return read


def compare_waiting(recipe: str, seconds: float) -> None:
    """Steps of a recipe by how threads wait, beside more and more busy processes; and whether what is set is good."""
    cores, steps = num_cores(), {}
    with trainers(recipe) as connections:
        for count in NUM_BUSY:
            with contextlib.ExitStack() as stack:
                for _ in range(count):
                    stack.callback(_end, subprocess.Popen(BUSY))
                steps[count] = take_turns(connections, seconds)
    best = min(steps[0].values())
    goals = {
        count: MAX_RATIO_BUSY * best * (cores + count) / cores if count else MAX_RATIO_IDLE * best for count in NUM_BUSY
    }
    rows = {way: [steps[count][way] for count in NUM_BUSY] for way in WAYS} | {"goal": [*goals.values()]}
    console.print()
    print_table(
        (f"`{recipe}`, ms a step", *(f"{count} busy" for count in NUM_BUSY)),
        ((name, *(f"{1000 * value:.1f}" for value in values)) for name, values in rows.items()),
    )
    shares = [steps[count][AS_IT_IS] / goal for count, goal in goals.items()]
    console.print(f"\nof the goals, what trainings do takes {', '.join(f'{share:.2f}' for share in shares)}")


def take_turns(connections: dict[str, Connection], seconds: float) -> dict[str, float]:
    """The median seconds of a step of each; about `seconds` for each of them, in several rounds."""
    step_seconds: dict[str, list[float]] = {way: [] for way in connections}
    for _ in range(ROUNDS):
        for way, connection in connections.items():
            connection.send(seconds / ROUNDS)
            step_seconds[way] += connection.recv()
    return {way: statistics.median(values) for way, values in step_seconds.items()}


@contextlib.contextmanager
def trainers(recipe: str) -> Iterator[dict[str, Connection]]:
    """For each way a process that takes steps for so many seconds as it is told, and says how long each took."""
    kept = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    connections, processes = {}, []
    for way, variables in WAYS.items():
        os.environ.update(variables)
        connections[way], there = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=_train, args=(there, recipe), daemon=True)
        process.start()
        processes.append(process)
        there.close()  # so that its end is seen
        for name in variables:
            del os.environ[name]
    os.environ.update(kept)
    for connection in connections.values():
        connection.recv()
    try:
        yield connections
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _train(connection: Connection, recipe: str) -> None:
    keep_freed_memory()
    share_cores()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", num_cores())))
    step = take_steps(make_learner(f"recipe={recipe}"))
    step()
    connection.send(None)
    while True:
        seconds = connection.recv()
        kept, started = list[float](), time.perf_counter()
        while not kept or time.perf_counter() - started < WARM_UP_SECONDS + seconds:
            is_warm = time.perf_counter() - started > WARM_UP_SECONDS
            taken = seconds_of(step)
            if is_warm:
                kept.append(taken)
        connection.send(kept)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


if __name__ == "__main__":
    sys.exit(guarded(main))
