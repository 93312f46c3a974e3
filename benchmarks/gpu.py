"""Training on a GPU: characters a second against batch size and precision.

Usage: python -m benchmarks.gpu

Needs the encoded corpus (`dvc repro encode`) and a GPU; without one, the exit code is 2. A step is the whole step of
training an LSTM (no block) by the optimizers of the recipe `nanogpt`, 100 characters back in time; figures are medians.
"""

import sys

import torch

from benchmarks.harness import console, median_seconds, print_table
from benchmarks.training import make_learner
from pipeline.new.timing import take_steps
from pipeline.stage.stage import guarded

SIZES = {"2×256": (2, 256), "1×384": (1, 384), "1×1024": (1, 1024)}  # layers, units
BATCH_SIZES = (64, 256, 1024, 2048)
PRECISIONS = ("fp32", "bf16")
CONTEXT_LEN = 100
NUM_STEPS, NUM_WARM_UP_STEPS = 8, 2
TARGET = 12_000_000  # characters a second at 2×256


def main() -> int:
    """Measure and print a Markdown table."""
    if not torch.cuda.is_available():
        console.print("no GPU here that torch can use")
        return 2
    console.print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; the target is {TARGET:,} at 2×256\n")
    print_table(
        ("size", "precision", *(f"{batch_size} rows" for batch_size in BATCH_SIZES)),
        (
            (size, precision, *(f"{chars_per_second(size, precision, rows):,.0f}" for rows in BATCH_SIZES))
            for size in SIZES
            for precision in PRECISIONS
        ),
    )
    return 0


def chars_per_second(size: str, precision: str, batch_size: int) -> float:
    """Of training steps, each waited for."""
    num_layers, hidden_size = SIZES[size]
    step = take_steps(
        make_learner(
            "recipe=nanogpt",
            "model.feed_forward_size=0",
            f"model.num_layers={num_layers}",
            f"model.hidden_size={hidden_size}",
            f"train.precision={precision}",
            f"train.batch_size={batch_size}",
            f"train.context_len={CONTEXT_LEN}",
            "train.warmup_steps=0",
        )
    )

    def step_to_its_end() -> None:
        step()
        torch.accelerator.synchronize()

    return batch_size * CONTEXT_LEN / median_seconds(step_to_its_end, NUM_STEPS, NUM_WARM_UP_STEPS)


if __name__ == "__main__":
    sys.exit(guarded(main))
