"""Training on a GPU: characters a second against batch size and precision.

Usage: python -m benchmarks.gpu

Needs the encoded corpus (`dvc repro encode`) and a GPU; without one, the exit code is 2. A step is the whole step of
training an LSTM (no block) by the optimizers of the recipe `nanogpt`, 100 characters back in time; figures are medians.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from rich.console import Console

from benchmarks.training import make_learner, take_steps
from pipeline.stage.stage import guarded

SIZES = {"2×256": (2, 256), "1×384": (1, 384), "1×1024": (1, 1024)}  # layers, units
BATCH_SIZES = (64, 256, 1024, 2048)
PRECISIONS = ("fp32", "bf16")
CONTEXT_LEN = 100
NUM_STEPS = 8
NUM_WARM_UP_STEPS = 2
TARGET = 12_000_000  # characters a second at 2×256


def main() -> int:
    """Measure and print a Markdown table."""
    console = Console(highlight=False, soft_wrap=True)
    if not torch.cuda.is_available():
        console.print("no GPU here that torch can use")
        return 2
    console.print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; the target is {TARGET:,} at 2×256\n")
    console.print(f"| size | precision | {' | '.join(f'{size} rows' for size in BATCH_SIZES)} |")
    console.print("|---|---|" + "---|" * len(BATCH_SIZES))
    for size in SIZES:
        for precision in PRECISIONS:
            cells = [f"{chars_per_second(size, precision, batch_size):,.0f}" for batch_size in BATCH_SIZES]
            console.print(f"| {size} | {precision} | {' | '.join(cells)} |")
    return 0


def chars_per_second(size: str, precision: str, batch_size: int) -> float:
    """Of training steps, each waited for."""
    num_layers, hidden_size = SIZES[size]
    learner = make_learner(
        "recipe=nanogpt",
        "model.feed_forward_size=0",
        f"model.num_layers={num_layers}",
        f"model.hidden_size={hidden_size}",
        f"train.precision={precision}",
        f"train.batch_size={batch_size}",
        f"train.context_len={CONTEXT_LEN}",
        "train.warmup_steps=0",
    )
    step = take_steps(learner)
    seconds = [_seconds(step) for _ in range(NUM_WARM_UP_STEPS + NUM_STEPS)]
    return batch_size * CONTEXT_LEN / statistics.median(seconds[NUM_WARM_UP_STEPS:])


def _seconds(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    torch.accelerator.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(guarded(main))
