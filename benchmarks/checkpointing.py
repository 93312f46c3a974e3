"""What checkpoints cost the default recipe: blocks of steps with one and without take turns in one training.

Usage: python -m benchmarks.checkpointing [--pairs 20]

Needs the encoded corpus (`dvc repro encode`). A checkpoint is copied on the training thread and written by another;
the block is long enough to hold both. The overhead is a checkpoint's cost over the time from one to the next.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from benchmarks.trials import CHECKPOINTS, fresh_processes, load_data
from charlstm.errors import Interrupted
from charlstm.model.char_lstm import CharLSTM
from charlstm.params import load_params
from charlstm.training.checkpoint import Checkpoint, CheckpointFolder
from charlstm.training.history import EpochRow, StepRow
from charlstm.training.progress import Progress
from charlstm.training.train import Plan, fit
from pipeline.stage.settings import DEFAULT_SECONDS
from pipeline.stage.stage import guarded

STEPS_PER_BLOCK = 25
LIMIT = 0.01
SECONDS_BETWEEN = DEFAULT_SECONDS["CHARLSTM_CHECKPOINT_SECONDS"]


class OnRequest(CheckpointFolder):
    """A folder that is written to when it was asked for, and that keeps the times."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, SECONDS_BETWEEN)
        self.is_wanted = False
        self.write_seconds: list[float] = []

    @property
    def seconds_between(self) -> float:
        """No time at all, once after a request."""
        is_wanted, self.is_wanted = self.is_wanted, False
        return 0.0 if is_wanted else float("inf")

    @seconds_between.setter
    def seconds_between(self, value: float) -> None:
        pass

    def _write(self, step: int, checkpoint: Checkpoint) -> None:
        started = time.perf_counter()
        super()._write(step, checkpoint)
        self.write_seconds.append(time.perf_counter() - started)


class BlockTimer:
    """An observer that wants a checkpoint in every other block and takes the blocks' times."""

    def __init__(self, checkpoints: OnRequest) -> None:
        self.checkpoints = checkpoints
        self.seconds: dict[bool, list[float]] = {False: [], True: []}
        self.num_blocks = 0
        self._last_step = 0

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """The first block warms up."""
        self._started = time.perf_counter()

    def on_steps(self, row: StepRow, chars_per_second: float) -> None:
        """A block is over: its checkpoint was written at its beginning, or not at all. Those cut by an epoch's end do
        not count."""
        now, is_whole = time.perf_counter(), row.step - self._last_step == STEPS_PER_BLOCK
        self._last_step = row.step
        if self.num_blocks > 0 and is_whole:
            self.seconds[self.num_blocks % 2 == 0].append(now - self._started)
        self.num_blocks += 1
        self.checkpoints.is_wanted = self.num_blocks % 2 == 0
        self._started = now

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Validation is in no block."""
        self._started = time.perf_counter()


def main() -> int:
    """Measure and print; the exit code is 1 if the overhead is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20, help="blocks with a checkpoint, and without")
    num_blocks = 2 * parser.parse_args().pairs + 1  # the first one warms up
    params = load_params(Path("params.yaml"))
    # An epoch has one block or more, so these are enough; training is stopped before.
    changed = {"log_every_steps": STEPS_PER_BLOCK, "epochs": num_blocks + 1}
    recipe = params.train.model_copy(update=changed)
    CHECKPOINTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="checkpointing-", dir=CHECKPOINTS) as folder:
        checkpoints = OnRequest(Path(folder))
        timer = BlockTimer(checkpoints)
        try:
            fit(
                load_data(),
                params.model,
                recipe,
                fresh_processes(params),
                [timer],
                checkpoints,
                lambda: timer.num_blocks >= num_blocks,
            )
        except Interrupted:
            num_bytes = sum(file.stat().st_size for file in max(Path(folder).glob("step-*")).iterdir())
    without, with_one = (statistics.median(timer.seconds[kind]) for kind in (False, True))
    overhead = (with_one - without) / SECONDS_BETWEEN
    Console(highlight=False, soft_wrap=True).print(
        f"{STEPS_PER_BLOCK} steps without a checkpoint {without:.3f} s, with one {with_one:.3f} s (medians of "
        f"{len(timer.seconds[True])}): it costs {with_one - without:.3f} s\n"
        f"one checkpoint: {num_bytes / 1e6:.1f} MB, written in {statistics.median(checkpoints.write_seconds):.3f} s\n"
        f"overhead with one every {SECONDS_BETWEEN:.0f} s: {100 * overhead:.2f} % (limit {100 * LIMIT:.0f} %)"
    )
    return int(overhead > LIMIT)


if __name__ == "__main__":
    sys.exit(guarded(main))
