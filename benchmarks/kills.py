"""SIGKILL at random moments: every resumed run must write the same bytes as an undisturbed run.

Usage: python -m benchmarks.kills [--count 100] [--seed 0]

Runs of one, two and three processes take turns. Each run is killed a few times and then finishes.
Kills come during the start, in the middle of training, when a checkpoint begins to be written, and
in the last seconds. Either all processes are killed at once, as when the machine goes down, or only
the launcher or a worker. Then the other processes must end within 60 seconds.
"""

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from benchmarks.harness import console, new_parser
from tests.support.projects import (
    LAUNCH,
    family,
    kill,
    make_encoded_project,
    results,
    run,
    start,
    training_command,
)

KILLS_PER_RUN = 5
# NCCL has one process for each GPU.
WORLDS = range(1, min(3, torch.cuda.device_count() or 3) + 1)
MOMENTS = ("starting", "training", "saving", "saving", "ending")
VICTIMS = ("all", "all", "launcher", "worker")
FINISHED = "finished before"
SECONDS_TO_END = 60
OVERRIDE = {
    "model.hidden_size": 64,
    "train.epochs": 8,
    "train.early_stopping_epochs": None,
    "train.log_every_steps": 7,  # most checkpoints come between two rows
    "train.dropout.output": 0.3,
    "train.initial": "initial",
    "train.state_reset_probability": 0.05,
}
# The longest time from a moment's line in the log to the kill.
MAX_SECONDS = {"starting": 5.0, "training": 1.0, "saving": 1.0, "ending": 1.5}
LINES = {"training": b"parameters, ", "saving": b"parameters, ", "ending": b"epoch 8/"}


def main() -> int:
    """Kill runs, resume them and compare their results. Return 1 if a byte differs."""
    parser = new_parser(__doc__)
    parser.add_argument("--count", type=int, default=100, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    words = "hidden units; with a number, precision is auto"
    parser.add_argument("--units", type=int, help=words)
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    moments = Counter[str]()
    num_kills = 0
    num_runs = 0
    num_wrong = 0
    # Each number of processes has its turn.
    kills_per_run = min(KILLS_PER_RUN, -(-arguments.count // len(WORLDS)))
    with tempfile.TemporaryDirectory(prefix="charlstm-kills-") as name:
        folder = Path(name)
        expected = train_undisturbed(folder, arguments.units)
        while (num_left := arguments.count - num_kills) > 0:
            world = WORLDS[num_runs % len(WORLDS)]
            project = folder / f"run-{num_runs}"
            log = folder / f"log-{num_runs}"
            shutil.copytree(folder / "template", project)
            for _ in range(min(kills_per_run, num_left)):
                moments[start_and_kill(project, world, log, generator)] += 1
            num_kills = moments.total() - moments[FINISHED]
            code = run(project, command_of(world), log)
            num_runs += 1
            verdict = "identical"
            if code != 0 or results(project) != expected[world]:
                num_wrong += 1
                verdict = f"DIFFERENT (exit code {code})\n{log.read_text()[-2000:]}"
            kind = f"run {num_runs} of {world} process(es)"
            console.print(f"{num_kills:4d} kills, {kind}: {verdict}")
    said = ", ".join(f"{number} {moment}" for moment, number in moments.items())
    console.print(f"{num_kills} kills ({said}); {num_runs} runs, {num_wrong} different")
    return int(num_wrong > 0)


def train_undisturbed(folder: Path, num_units: int | None) -> dict[int, dict[str, str]]:
    """Create a project to train. Return undisturbed results by the number of processes."""
    larger = {"model.hidden_size": num_units, "train.precision": "auto"} if num_units else {}
    make_encoded_project(folder / "template", {**OVERRIDE, **larger})
    expected = {}
    for world in WORLDS:
        project = folder / f"undisturbed-{world}"
        log = folder / "log"
        shutil.copytree(folder / "template", project)
        assert run(project, training_command(world), log) == 0, log.read_text()
        expected[world] = results(project)
    return expected


def command_of(world: int) -> list[str]:
    """Return the command that trains. The launcher tells several processes of a death."""
    return [*(LAUNCH if world > 1 else []), *training_command(world)]


def start_and_kill(project: Path, world: int, log: Path, generator: random.Random) -> str:
    """Start a run and kill it. Return the moment of the kill."""
    offset = log.stat().st_size if log.exists() else 0
    process = start(project, command_of(world), log, CHARLSTM_CHECKPOINT_SECONDS="0.2")
    moment = generator.choice(MOMENTS)
    line = LINES.get(moment, b"")
    while process.poll() is None and line not in log.read_bytes()[offset:]:
        time.sleep(0.02)
    deadline = time.monotonic() + generator.uniform(0, MAX_SECONDS[moment])
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    # Wait until the next checkpoint begins to be written.
    while moment == "saving" and process.poll() is None:
        if any(project.glob(".charlstm/*/.step-*")):
            break
        time.sleep(0.0005)
    if process.poll() is not None:
        return FINISHED
    kill_one(process, generator.choice(VICTIMS))
    return moment


def kill_one(process: subprocess.Popen[bytes], victim: str) -> None:
    """Kill all processes, or one process whose death the others must notice.

    Raises:
        TimeoutExpired, AssertionError: a process is left 60 seconds after the kill.
    """
    everyone = family(process)
    if victim != "all":
        with suppress(psutil.NoSuchProcess):
            everyone[0 if victim == "launcher" else -1].kill()
        process.wait(SECONDS_TO_END)
        _, alive = psutil.wait_procs(everyone, timeout=SECONDS_TO_END)
        left = [one.cmdline() for one in alive]
        assert not left, f"left {SECONDS_TO_END} s after the {victim} was killed: {left}"
    kill(process)


if __name__ == "__main__":
    sys.exit(main())
