"""What tracking costs the default recipe: without it, with a store, and with a server that hangs, in turns."""

import contextlib
import os
import socket
import statistics
import time
from pathlib import Path

from rich.console import Console

from benchmarks.trials import fresh_processes, load_data
from charlstm.errors import Interrupted
from charlstm.model.char_lstm import CharLSTM
from charlstm.params import load_params
from charlstm.tracking.outbox import Outbox
from charlstm.tracking.runs import TrainingTracker
from charlstm.training.history import EpochRow, StepRow
from charlstm.training.progress import Progress
from charlstm.training.train import Observer, Plan, fit
from pipeline.stage.sending import SenderProcess

NUM_STEPS = 900  # of each training, most of the default recipe; the first block warms up
STEPS_PER_BLOCK = 10
TAGS = {"corpus": "tiny Shakespeare", "corpus_sha256": "0" * 64}
LIMITS = {"store": 1.01, "hanging server": 1.02}


class BlockTimer:
    """An observer that takes the time of every `STEPS_PER_BLOCK` steps, with what observers before it do."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.num_blocks = 0

    def on_start(self, plan: Plan, progress: Progress) -> None:
        """The first block does not count."""
        self._started = time.perf_counter()

    def on_steps(self, row: StepRow, chars_per_second: float) -> None:
        """A block is over; one that an epoch's end cuts does not count."""
        now = time.perf_counter()
        if self.num_blocks > 0 and row.step % STEPS_PER_BLOCK == 0:
            self.seconds.append(now - self._started)
        self.num_blocks += 1
        self._started = now

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Validation is in no block."""
        self._started = time.perf_counter()


def measure_cost(folder: Path, rounds: int, console: Console) -> bool:
    """Take times and print them; whether they are within their limits."""
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen(100)
        uris = {
            "store": f"sqlite:///{folder}/cost.db",
            "hanging server": f"http://127.0.0.1:{hanging.getsockname()[1]}",
        }
        seconds: dict[str, list[float]] = {"no tracking": [], **{kind: [] for kind in uris}}
        for number in range(rounds):
            for kind in seconds:
                seconds[kind] += _train(folder / f"{kind}-{number}", uris.get(kind))
    without = seconds["no tracking"]
    is_cheap = True
    for kind, limit in LIMITS.items():
        ratio = statistics.median(seconds[kind]) / statistics.median(without)
        total = statistics.mean(seconds[kind]) / statistics.mean(without)
        is_cheap = is_cheap and ratio <= limit
        console.print(
            f"{kind}: {1000 * statistics.median(seconds[kind]) / STEPS_PER_BLOCK:.2f} ms a step, without tracking "
            f"{1000 * statistics.median(without) / STEPS_PER_BLOCK:.2f}; ratio of medians {ratio:.4f} (limit {limit}), "
            f"of means {total:.4f}; {len(without)} blocks of {STEPS_PER_BLOCK} steps each"
        )
    return is_cheap


def _train(spools: Path, uri: str | None) -> list[float]:
    params = load_params(Path("params.yaml"))
    recipe = params.train.model_copy(update={"log_every_steps": STEPS_PER_BLOCK})
    timer = BlockTimer()
    observers: list[Observer] = [timer]
    tracker = None
    if uri is not None:
        os.environ["MLFLOW_TRACKING_URI"] = uri  # for the sender
        tracker = TrainingTracker(Outbox(spools, SenderProcess), params.flat(), TAGS, "cost")
        observers = [tracker, timer]

    def is_over() -> bool:
        return timer.num_blocks >= NUM_STEPS // STEPS_PER_BLOCK

    with contextlib.suppress(Interrupted):
        fit(load_data(), params.model, recipe, fresh_processes(params), observers, None, is_over)
    if tracker is not None:
        tracker.abandon("KILLED", "enough was measured")
    return timer.seconds
