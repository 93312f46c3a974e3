"""A tracking server that dies or hangs: lost data, and the cost of tracking.

Usage: python -m benchmarks.tracking [--count 20] [--seed 0] [--rounds 9]

First, `--count` small trainings send to an MLflow server that is killed at a random moment. In
every other training, the server comes back during the training. Each training must end in the same
bytes, and after `charlstm sync` its run must be complete.

Then the default recipe trains without tracking, with the project's store, and with a server that
accepts connections and never answers. They take turns, in `--rounds` rounds. That needs the encoded
corpus (`dvc repro encode`) and a quiet machine.
"""

import random
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

import pandas as pd

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
from pipeline.run.settings import DEFAULT_SECONDS
from pipeline.run.stage import errors_reported
from tests.support.projects import (
    PYTHON,
    kill,
    make_encoded_project,
    results,
    run,
    start,
    training_command,
)

OVERRIDE = {"model.hidden_size": 96, "train.epochs": 10, "train.early_stopping_epochs": None}
MAX_SECONDS = 14.0  # from the start of the training to the kill, which may come after its end
PATIENCE = {"CHARLSTM_TRACKING_SECONDS": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
# Short blocks, so that a change of the machine's speed affects all kinds.
STEPS_PER_BLOCK = 10
NUM_BLOCKS = 20
TAGS = {"corpus": "tiny Shakespeare", "corpus_sha256": "0" * 64}
LIMITS = {"store": 1.01, "hanging server": 1.02}  # relative to the median without tracking
MAX_END_SECONDS = 15.0  # of a training whose server hangs


class Server:
    """`mlflow server` with its data in a folder. It can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.folder = folder
            self.port = int(free.getsockname()[1])
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server, and return when it answers."""
        self.folder.mkdir(exist_ok=True)
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        artifacts = ["--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts")]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self._process = subprocess.Popen(
            [*PYTHON, "mlflow", "server", *store, *artifacts, *address],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"{self.address}/health", timeout=1):
                return
            time.sleep(0.2)
        raise TimeoutError(f"no MLflow server at {self.address}")

    def kill(self) -> None:
        """Send SIGKILL to the server and its workers."""
        kill(self._process)


def main() -> int:
    """Measure and print. Return 1 if something was lost, or costs more than its limit."""
    parser = new_parser(__doc__)
    words = "number of trainings whose server is killed"
    parser.add_argument("--count", type=int, default=20, help=words)
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    words = "number of timed trainings of each kind; may be 0"
    parser.add_argument("--rounds", type=int, default=9, help=words)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="charlstm-tracking-") as name:
        generator = random.Random(arguments.seed)
        is_complete = not arguments.count or kill_servers(Path(name), arguments.count, generator)
        is_cheap = arguments.rounds == 0 or measure_cost(Path(name), arguments.rounds)
    return int(not (is_complete and is_cheap))


def kill_servers(folder: Path, count: int, generator: random.Random) -> bool:
    """Train, kill the server, sync. Return whether all models and runs are right."""
    template = folder / "template"
    log = folder / "log"
    server = Server(folder / "server")
    make_encoded_project(template, OVERRIDE)
    num_good = 0
    for index in range(count + 1):
        project = Path(shutil.copytree(template, folder / f"training-{index}"))
        if index == 0:  # undisturbed
            run(project, training_command(1), log)
            expected = results(project)
            continue
        when = _train_and_kill(project, server, log, generator, comes_back=index % 2 == 1)
        server.start()
        run(project, [*PYTHON, "pipeline.cli", "sync"], log, MLFLOW_TRACKING_URI=server.address)
        server.kill()
        found = read_run(server.folder)
        num_texts = len(list(server.folder.rglob("epoch-*.txt")))
        is_complete = found == expected_run(project) and num_texts == 10
        is_good = results(project) == expected and is_complete
        num_good += is_good
        verdict = "same bytes, complete" if is_good else f"WRONG: {found}"
        console.print(f"{index:4d}  killed {when}: {verdict}")
        shutil.rmtree(server.folder)
    good = "with a model of the same bytes and, after `charlstm sync`, a complete run"
    console.print(f"{num_good} of {count} {good}")
    return num_good == count


def _train_and_kill(
    project: Path, server: Server, log: Path, generator: random.Random, *, comes_back: bool
) -> str:
    """Train and kill the server. Return when it was killed."""
    server.start()
    moment = generator.uniform(0, MAX_SECONDS)
    pause = generator.uniform(0.5, 5)
    uri = server.address
    process = start(project, training_command(1), log, MLFLOW_TRACKING_URI=uri, **PATIENCE)
    time.sleep(moment)
    when = f"after {moment:4.1f} s{'' if process.poll() is None else ' (it had ended)'}"
    server.kill()
    if comes_back:
        time.sleep(pause)
        server.start()
    process.wait()
    if comes_back:
        server.kill()
    return when


def read_run(folder: Path) -> dict[str, object]:
    """Return the runs of a stopped server's database, and the points and steps of metrics."""
    points = (
        "select key, count(*), count(distinct step) from metrics join runs using (run_uuid) "
        "where status = 'FINISHED' and key not like 'system/%' group by key"
    )
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        (runs,) = store.execute("select count(*), sum(status = 'FINISHED') from runs")
        return {"runs": list(runs), **{key: counts for key, *counts in store.execute(points)}}


def expected_run(project: Path) -> dict[str, object]:
    """Return the result of `read_run` that matches the tables of a training."""
    steps, epochs = (
        len(pd.read_csv(project / f"artifacts/train/{name}.csv")) for name in ("steps", "history")
    )
    by_step = ("gradient_norm", "learning_rate", "chars_per_second", "chars_seen")
    points = {"loss/training": steps, **{f"train/{name}": steps for name in by_step}}
    points |= dict.fromkeys(("loss/validation", "loss/training_epoch"), epochs)
    points |= dict.fromkeys(("train/seconds", "train/speed", "train/num_parameters"), 1)
    return {"runs": [1, 1], **{key: [number, number] for key, number in points.items()}}


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


def measure_cost(folder: Path, num_rounds: int) -> bool:
    """Time blocks of steps and print the results. Return whether they are within their limits."""
    with socket.socket() as hanging:
        hanging.bind(("127.0.0.1", 0))
        hanging.listen(100)
        hanging_uri = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        uris = {"nothing": "", "store": f"sqlite:///{folder}/cost.db"}
        uris["hanging server"] = hanging_uri
        seconds: dict[str, list[float]] = {kind: [] for kind in uris}
        end_seconds = dict.fromkeys(uris, 0.0)
        for number in range(num_rounds):
            for kind, uri in uris.items():
                steps, end = _train(folder / f"state-{number}" / kind, uri)
                seconds[kind] += steps
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
    return is_cheap and max(end_seconds.values()) < MAX_END_SECONDS + 1


def _train(folder: Path, uri: str) -> tuple[list[float], float]:
    """Return the seconds of blocks of steps, and those of the end."""
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
