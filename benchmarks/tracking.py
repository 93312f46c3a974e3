"""Cost of tracking, also with a server that accepts connections and never answers.

Usage: python -m benchmarks.tracking [--rounds 9]

The default recipe trains without tracking, with a local store, and with a hanging server. The three
take turns. The benchmark needs the encoded text (`dvc repro encode`) and a quiet machine. Return 1
if tracking costs more than its limit.
"""

import socket
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.harness import console, new_parser
from benchmarks.trials import fresh_processes, load_data
from charlstm.errors import Interrupted
from charlstm.files.lock import exclusive
from charlstm.history import EpochRow, StepRow
from charlstm.model.char_lstm import CharLSTM
from charlstm.params import load_params
from charlstm.tracking.client import Store
from charlstm.tracking.sync import published_while_training
from charlstm.tracking.training_record import TrainingRecord
from charlstm.training.loop import fit
from charlstm.training.progress import Observer
from pipeline.run.project import DEFAULT_SECONDS
from pipeline.run.stage import errors_reported

# Short blocks, so that a change of the machine's speed affects all kinds.
STEPS_PER_BLOCK = 10
NUM_BLOCKS = 20
TAGS = {"corpus": "tiny Shakespeare", "corpus_sha256": "0" * 64}
LIMITS = {"store": 1.01, "hanging server": 1.02}  # relative to the median without tracking
MAX_END_SECONDS = 15.0  # of a run whose server hangs


class StepTimer(Observer):
    """Observer that times blocks of `STEPS_PER_BLOCK` steps, with all observers before it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started: float | None = None

    def on_steps(self, row: StepRow, chars_per_second: float, ids_seen: int) -> None:
        """End a block. The first block of an epoch may be cut, so it does not count."""
        now = time.perf_counter()
        if self._started is not None:
            self.seconds.append(now - self._started)
        self._started = now

    def on_epoch(self, row: EpochRow, model: CharLSTM, train_seconds: float) -> None:
        """Start again after the validation."""
        self._started = None

    def is_over(self) -> bool:
        """Return whether there are enough blocks."""
        return len(self.seconds) >= NUM_BLOCKS


def main() -> int:
    """Time blocks of steps and print the results. Return 1 if a result exceeds its limit."""
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="number of timed runs of each kind")
    num_rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="charlstm-tracking-") as name, socket.socket() as server:
        folder = Path(name)
        server.bind(("127.0.0.1", 0))
        server.listen(100)
        uris = {
            "nothing": "",
            "store": f"sqlite:///{folder}/cost.db",
            "hanging server": f"http://127.0.0.1:{server.getsockname()[1]}",
        }
        seconds: dict[str, list[float]] = {kind: [] for kind in uris}
        end_seconds = dict.fromkeys(uris, 0.0)
        for number in range(num_rounds):
            for kind, uri in uris.items():
                blocks, end = train(folder / f"state-{number}" / kind, uri)
                seconds[kind] += blocks
                end_seconds[kind] = max(end, end_seconds[kind])
    median = {
        kind: 1000 * statistics.median(values) / STEPS_PER_BLOCK for kind, values in seconds.items()
    }
    for kind, limit in LIMITS.items():
        console.print(
            f"{kind}: {median[kind]:.2f} ms a step, without tracking {median['nothing']:.2f}; "
            f"ratio {median[kind] / median['nothing']:.4f} (limit {limit}); "
            f"its end takes {end_seconds[kind]:.1f} s (limit {MAX_END_SECONDS:.0f})"
        )
    is_cheap = all(median[kind] <= limit * median["nothing"] for kind, limit in LIMITS.items())
    return int(not is_cheap or max(end_seconds.values()) > MAX_END_SECONDS + 1)


def train(folder: Path, uri: str) -> tuple[list[float], float]:
    """Return the seconds of each block of steps, and the seconds that tracking takes to end."""
    params = load_params(Path("params.yaml"))
    timer = StepTimer()
    recipe = params.train.model_copy(update={"log_every_steps": STEPS_PER_BLOCK})
    patience = DEFAULT_SECONDS["CHARLSTM_TRACKING_SECONDS"]
    data = load_data()
    processes = fresh_processes(params)
    if not uri:
        with suppress(Interrupted):
            fit(data, params.model, recipe, processes, [timer], None, timer.is_over)
        return timer.seconds, 0.0
    folder.mkdir(parents=True)
    record = TrainingRecord(folder, str(folder), params.flat(), TAGS)
    with (
        exclusive(folder, "a training"),
        published_while_training(Store(uri, "cost", None), folder, patience),
    ):
        with suppress(Interrupted), record:
            fit(data, params.model, recipe, processes, [record, timer], None, timer.is_over)
        ended = time.perf_counter()
    return timer.seconds, time.perf_counter() - ended


if __name__ == "__main__":
    with errors_reported() as outcome:
        outcome.code = main()
    sys.exit(outcome.code)
