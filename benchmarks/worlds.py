"""1 to 4 processes, and checkpoints of N processes resumed by M: the losses must be those of one.

Usage: python -m benchmarks.worlds [--short]

The training runs have two layers, dropout, state resets, and a batch of 10 rows, which 3
and 4 processes cannot share evenly. In float64, every step is compared. In fp32, rounding grows, so
only the first 20 steps and the last validation loss are compared.
"""

import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from benchmarks.harness import console, new_parser, print_table
from tests.support.projects import make_encoded_project, start, text, training_command

OVERRIDE = {
    "model.num_layers": 2,
    "model.feed_forward_size": 24,
    "train.batch_size": 10,
    "train.epochs": 8,
    "train.early_stopping_epochs": None,
    "train.dropout.between_layers": 0.2,
    "train.dropout.output_samples": 2,
    "train.dropout.output": 0.3,
    "train.muon.learning_rate": 0.01,  # rounding hardly grows from step to step
    "train.initial": "initial",
    "train.state_reset_probability": 0.1,
}
MIN_STEPS = 200
NUM_FP32_STEPS = 20
TOLERANCES = {"fp64": 1e-9, "fp32": 1e-5}  # relative difference of a step's loss
VALIDATION_TOLERANCE = 0.003  # nats/char


class Case(NamedTuple):
    """A run of `worlds[0]` processes, or stopped in the middle and finished by `worlds[1]`."""

    worlds: tuple[int, ...]
    micro_batch_size: int | None = None


CASES = [Case((2,)), Case((3,)), Case((4,)), Case((4, 1)), Case((2, 3)), Case((1,), 3)]
CASES += [Case((3,), 2)]
SHORT_CASES = [Case((2, 3), 2)]


def main() -> int:
    """Train, compare, print a Markdown table. Return 1 if a figure is outside its tolerance."""
    parser = new_parser(__doc__)
    parser.add_argument("--short", action="store_true", help="only the most complex case")
    cases = SHORT_CASES if parser.parse_args().short else CASES
    if torch.cuda.is_available():  # NCCL has one process for each GPU
        cases = [case for case in cases if max(case.worlds) <= torch.cuda.device_count()]
    wrong: list[tuple[Case, str]] = []

    def rows() -> Iterator[tuple[object, ...]]:
        for precision, tolerance in TOLERANCES.items():
            expected_N, expected_validation = _train(Case((1,)), precision)
            num_compared = len(expected_N) if precision == "fp64" else NUM_FP32_STEPS
            for case in cases:
                steps_N, validation = _train(case, precision)
                assert len(steps_N) == len(expected_N) >= MIN_STEPS
                largest = ((steps_N - expected_N).abs() / expected_N)[:num_compared].max()
                difference = abs(validation - expected_validation)
                if not (largest <= tolerance and difference <= VALIDATION_TOLERANCE):
                    wrong.append((case, precision))
                yield *case, precision, f"{largest:.1e}", f"{validation:.6f}", f"{difference:.1e}"

    figures = ("largest difference of a step", "validation", "difference")
    print_table(("processes", "micro-batch", "precision", *figures), rows())
    console.print(f"{len(TOLERANCES) * len(cases)} runs, {len(wrong)} outside the tolerances")
    return int(len(wrong) > 0)


def _train(case: Case, precision: str) -> tuple["pd.Series[float]", float]:
    """Return the losses of all steps, and the last validation loss."""
    with tempfile.TemporaryDirectory(prefix="charlstm-worlds-", ignore_cleanup_errors=True) as name:
        project = Path(name) / "project"
        log = Path(name) / "log"
        override = OVERRIDE | {
            "train.precision": precision,
            "train.micro_batch_size": case.micro_batch_size,
        }
        make_encoded_project(project, override, text()[:6000])
        for world in case.worlds[:-1]:
            _stop_in_the_middle(project, world, log)
        code = start(project, training_command(case.worlds[-1]), log).wait()
        has_resumed = "resuming from the checkpoint" in log.read_text()
        if code != 0 or (len(case.worlds) > 1 and not has_resumed):
            raise SystemExit(f"{case} {precision}: exit code {code}\n{log.read_text()[-3000:]}")
        steps, epochs = (
            pd.read_csv(project / f"artifacts/train/{name}.csv") for name in ("steps", "history")
        )
        return steps["train_nats_per_char"], epochs["val_nats_per_char"].iloc[-1]


def _stop_in_the_middle(project: Path, world: int, log: Path) -> None:
    process = start(project, training_command(world), log)
    while process.poll() is None and b"epoch 2/" not in log.read_bytes():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.wait()
    if not list(project.glob(".charlstm/*/step-*")) or (project / "artifacts/model").exists():
        said = log.read_text()[-3000:]
        raise SystemExit(f"{world} processes were not stopped in the middle\n{said}")


if __name__ == "__main__":
    sys.exit(main())
