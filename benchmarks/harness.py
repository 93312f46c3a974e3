"""Options, Markdown tables and clocks of the benchmarks."""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from rich.console import Console

console = Console(highlight=False, markup=False, soft_wrap=True)


def new_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help shows a module's docstring unchanged."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def print_table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a Markdown table, with each row as soon as it is measured."""
    console.print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        console.print(f"| {' | '.join(map(str, row))} |")


def seconds_of(action: Callable[[], object]) -> float:
    """Return the duration of a call in seconds."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def take_turns(
    actions: Mapping[str, Callable[[], object]], num_rounds: int, pause: float = 0.0
) -> dict[str, float]:
    """Return the median seconds of each action. Between calls, pause for `pause` seconds.

    The actions take turns, so that a noisy machine disturbs them equally.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(num_rounds):
        for name, action in actions.items():
            time.sleep(pause)
            seconds[name].append(seconds_of(action))
    return {name: statistics.median(values) for name, values in seconds.items()}
