"""How many threads a time step of the LSTM can use.

Usage: python -m benchmarks.threads [--seconds 3]

The table has a layer of the LSTM in many sizes, forward and backward, with one thread and with all cores, in turns. It
shows the fastest of many short readings, since whatever else runs on the machine only slows one. The constant
WORK_PER_THREAD (`pipeline.hardware`) is taken from it.
"""

import os
import sys
import time
from collections.abc import Callable
from itertools import product

import torch

from benchmarks.harness import console, new_parser, print_table, seconds_of
from benchmarks.training import PAUSE_SECONDS
from charlstm.model.gates import LSTMState
from charlstm.model.layers import FusedLayer
from charlstm.training.processes import multiplies_bf16
from pipeline.hardware import WORK_PER_THREAD, keep_freed_memory, num_cores, num_threads
from pipeline.stage.stage import guarded

ROWS, UNITS = (4, 16, 32, 64), (32, 64, 128, 256, 320, 512)
INPUTS, TIME_STEPS, READINGS = 128, 8, 30
MIN_ROUNDS = 5


def main() -> int:
    """Measure and print a Markdown table."""
    parser = new_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of measuring, for each row of the tables")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    console.print(f"{num_cores()} cores; load before: {load:.1f}{'' if load < 0.5 else ', so the machine is not idle'}")
    compare_sizes(arguments.seconds)
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


if __name__ == "__main__":
    sys.exit(guarded(main))
