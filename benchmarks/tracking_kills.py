"""Trainings whose MLflow server is killed at a random moment: the same bytes, and after `charlstm sync` a whole run."""

import random
import shutil
import socket
import sqlite3
import subprocess
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich.console import Console

from benchmarks.projects import PYTHON, kill, make_encoded_project, results, run, start, training_command

OVERRIDE = {"model.hidden_size": 96, "train.epochs": 10, "train.early_stopping_epochs": None}
MAX_SECONDS = 14.0  # from the start of the training to the kill; some come after its end
SECONDS_TO_START = 120.0
LINEAGE = ("origin.json", "files.json", "outputs.json", "params.yaml")  # of a project without DVC and git
PATIENCE = {"CHARLSTM_TRACKING_SECONDS": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


class Server:
    """`mlflow server` with a database and artifacts in a folder; it can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        self.folder.mkdir(exist_ok=True)
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        artifacts = ["--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts")]
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        self._process = subprocess.Popen(
            [*PYTHON, "mlflow", "server", *store, *artifacts, *place],
            cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=1).close()
                return
            except OSError:
                time.sleep(0.2)
        raise TimeoutError(f"no MLflow server at {self.address} after {SECONDS_TO_START:.0f} s")

    def kill(self) -> None:
        """SIGKILL, with all its workers."""
        kill(self._process)


class Record(NamedTuple):
    """What a server's database has of one project's trainings."""

    statuses: list[str]
    num_doubled: int  # points of one name and step that are there twice
    num_points: dict[str, int]
    num_artifacts: int


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def kill_servers(folder: Path, count: int, chance: random.Random, console: Console) -> bool:
    """Train, kill the server, sync, compare; whether every model was the same and every run complete."""
    template, log = folder / "template", folder / "log"
    make_encoded_project(template, OVERRIDE)
    shutil.copytree(template, folder / "reference")
    run(folder / "reference", training_command(1), log)
    expected = results(folder / "reference")
    assert "absent" not in expected.values(), log.read_text()
    num_same = num_complete = num_doubled = num_before_end = 0
    for index in range(count):
        project, server = folder / f"training-{index}", Server(folder / f"server-{index}")
        shutil.copytree(template, project)
        moment, has_ended = _train_and_kill(project, server, folder / f"log-{index}", chance, comes_back=index % 2 == 1)
        server.start()
        run(project, [*PYTHON, "pipeline.cli", "sync"], folder / f"log-{index}", MLFLOW_TRACKING_URI=server.address)
        server.kill()
        is_same, record = results(project) == expected, read_record(server.folder)
        is_complete = record == _expected_record(project)
        num_same, num_complete = num_same + is_same, num_complete + is_complete
        num_doubled, num_before_end = num_doubled + record.num_doubled, num_before_end + (not has_ended)
        verdict = "same bytes, complete" if is_same and is_complete else f"WRONG: {is_same=}, {record}"
        console.print(
            f"{index + 1:4d}  killed after {moment:4.1f} s{' (it had ended)' if has_ended else ''}: {verdict}"
        )
        for used in (project, server.folder):
            shutil.rmtree(used)
    console.print(
        f"{count} trainings, {num_before_end} servers killed before their end: {num_same} models of the same bytes, "
        f"{num_complete} complete runs after `charlstm sync`, {num_doubled} points twice"
    )
    return num_same == num_complete == count and num_doubled == 0


def _train_and_kill(
    project: Path, server: Server, log: Path, chance: random.Random, *, comes_back: bool
) -> tuple[float, bool]:
    """Seconds to the kill, and whether training had ended by then."""
    server.start()
    moment, pause = chance.uniform(0, MAX_SECONDS), chance.uniform(0.5, 5)
    process = start(project, training_command(1), log, MLFLOW_TRACKING_URI=server.address, **PATIENCE)
    time.sleep(moment)
    has_ended = process.poll() is not None
    server.kill()
    if comes_back:
        time.sleep(pause)
        server.start()
    process.wait()
    if comes_back:
        server.kill()
    return moment, has_ended


def read_record(folder: Path) -> Record:
    """From the database of a server that has stopped."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        statuses = [row[0] for row in store.execute("select status from runs")]
        points = "select key, step, count(*) as number from metrics where key not like 'system/%' group by key, step"
        (num_doubled,) = store.execute(f"select count(*) from ({points}) where number > 1").fetchone()
        num_points = dict(store.execute(f"select key, count(*) from ({points}) group by key"))
    artifacts = [file for file in (folder / "artifacts").rglob("*") if file.is_file()]
    return Record(statuses, num_doubled, num_points, len(artifacts))


def _expected_record(project: Path) -> Record:
    """From the tables that training wrote."""
    steps, epochs = (len(pd.read_csv(project / f"artifacts/train/{name}.csv")) for name in ("steps", "history"))
    by_step = ("nats_per_char", "gradient_norm", "chars_per_second", "chars_seen")
    points = {f"train/{name}": steps for name in by_step}
    points |= {"learning_rate/adamw": steps, "learning_rate/muon": steps}
    points |= {"validation/nats_per_char": epochs, "validation/epoch": epochs, "train/epoch_nats_per_char": epochs}
    points |= {"train/seconds": 1, "train/speed": 1, "model/num_parameters": 1}
    texts_and_table = epochs + 1
    return Record(["FINISHED"], 0, points, texts_and_table + len(LINEAGE))
