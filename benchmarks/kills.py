"""SIGKILL at random moments: every resumed training must end in the bytes of an undisturbed one.

Usage: python -m benchmarks.kills [--count 100] [--seed 0]

Trainings of one, two and three processes, and of one under `dvc repro`, take turns. Each is killed
a few times and then finishes. Kills come in the first second, while the processes start, in the
middle of training, when a checkpoint begins to be written, and in the last seconds. Either all
processes are killed at once, as when the machine goes down, or only the first process, its launcher
or a worker. Then the other processes must end within 60 seconds.
"""

import contextlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch

from benchmarks.harness import console, new_parser
from tests.support.projects import (
    LAUNCH,
    PYTHON,
    family,
    kill,
    make_encoded_project,
    results,
    run,
    start,
    training_command,
)

KILLS_PER_TRAINING = 5
# NCCL has one process for each GPU.
WORLDS = range(1, min(3, torch.cuda.device_count() or 3) + 1)
DVC = 0  # instead of a number of processes: one process, started by `dvc repro`
MOMENTS = ("first second", "starting", "training", "saving", "saving", "ending")
VICTIMS = ("all", "all", "first", "launcher", "worker")
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
MAX_START_SECONDS = 5.0
MAX_TRAINING_SECONDS = 1.0
MAX_ENDING_SECONDS = 1.5


def main() -> int:
    """Kill trainings, resume them, compare. Return 1 if a byte differs."""
    parser = new_parser(__doc__)
    parser.add_argument("--count", type=int, default=100, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    words = "hidden units; with a number, precision is auto"
    parser.add_argument("--units", type=int, help=words)
    arguments = parser.parse_args()
    generator = random.Random(arguments.seed)
    moments = Counter[str]()
    worlds = (*WORLDS, DVC)
    # Each kind of training has its turn.
    kills_each = min(KILLS_PER_TRAINING, -(-arguments.count // len(worlds)))
    num_trainings = num_wrong = 0
    with tempfile.TemporaryDirectory(prefix="charlstm-kills-") as name:
        folder = Path(name)
        template, expected = train_undisturbed(folder, arguments.units)
        while (num_left := arguments.count - moments.total() + moments[FINISHED]) > 0:
            world = worlds[num_trainings % len(worlds)]
            project = folder / f"training-{num_trainings}"
            log = folder / f"log-{num_trainings}"
            shutil.copytree(template, project)
            for _ in range(min(kills_each, num_left)):
                moments[start_and_kill(project, world, log, generator, victims=VICTIMS)] += 1
            code = run(project, command_of(world), log)
            is_right = code == 0 and results(project) == expected[world or 1]
            num_wrong += not is_right
            num_trainings += 1
            verdict = "identical"
            if not is_right:
                verdict = f"DIFFERENT (exit code {code})\n{log.read_text()[-2000:]}"
            kind = f"{world} process(es)" if world else "one process under dvc repro"
            killed = f"{moments.total():4d} kills"
            console.print(f"{killed}, training {num_trainings} of {kind}: {verdict}")
    console.print(f"{in_words(moments)}; {num_trainings} trainings, {num_wrong} with other bytes")
    return int(num_wrong > 0)


def train_undisturbed(
    folder: Path, num_units: int | None = None
) -> tuple[Path, dict[int, dict[str, str]]]:
    """Create a project to train, and undisturbed results by the number of processes."""
    template = folder / "template"
    log = folder / "log"
    expected = {}
    larger = {"model.hidden_size": num_units, "train.precision": "auto"} if num_units else {}
    make_encoded_project(template, {**OVERRIDE, **larger})
    for arguments in ("init --no-scm", "commit --force check download split encode"):
        command = [*PYTHON, "dvc", *arguments.split()]
        assert run(template, command, log) == 0, log.read_text()
    for world in WORLDS:
        project = folder / f"undisturbed-{world}"
        shutil.copytree(template, project)
        assert run(project, training_command(world), log) == 0, log.read_text()
        expected[world] = results(project)
    return template, expected


def in_words(moments: Counter[str]) -> str:
    """Return how many starts were killed, and when."""
    said = ", ".join(f"{number} {moment}" for moment, number in moments.items())
    return f"{moments.total()} killed ({said})"


def command_of(world: int) -> list[str]:
    """Return the command that trains. A launcher tells several processes of a death."""
    if world == DVC:
        return [*PYTHON, "dvc", "repro", "--single-item", "train"]
    return [*(LAUNCH if world > 1 else []), *training_command(world)]


def start_and_kill(
    project: Path,
    world: int,
    log: Path,
    generator: random.Random,
    victims: Sequence[str] = ("all",),
    **variables: str,
) -> str:
    """Start a training and kill it. Return the moment of the kill.

    Raises:
        AssertionError: a process is left 60 seconds after another process was killed.
    """
    offset = log.stat().st_size if log.exists() else 0
    process = start(project, command_of(world), log, CHARLSTM_CHECKPOINT_SECONDS="0.2", **variables)
    moment = generator.choice(MOMENTS)
    if moment == "first second":
        time.sleep(generator.uniform(0, 1))
    elif moment == "starting":
        time.sleep(generator.uniform(0, MAX_START_SECONDS))
    else:
        last = f"epoch {OVERRIDE['train.epochs']}/" if moment == "ending" else "parameters, "
        while process.poll() is None and last.encode() not in log.read_bytes()[offset:]:
            time.sleep(0.02)
        seconds = MAX_ENDING_SECONDS if moment == "ending" else MAX_TRAINING_SECONDS
        deadline = time.monotonic() + generator.uniform(0, seconds)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        # Wait until the next checkpoint begins to be written.
        while moment == "saving" and process.poll() is None:
            if any(project.glob(".charlstm/*/.step-*")):
                break
            time.sleep(0.0005)
    kill_one(process, generator.choice(victims))
    return moment


def kill_one(process: subprocess.Popen[bytes], victim: str) -> None:
    """Kill all processes, or one process that the others must notice."""
    everyone = family(process)
    if victim == "all" or not everyone:
        kill(process)
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        everyone[{"first": 0, "launcher": min(1, len(everyone) - 1), "worker": -1}[victim]].kill()
    if victim == "first":
        process.wait()
    _, alive = psutil.wait_procs(everyone, timeout=SECONDS_TO_END)
    left = [one.cmdline() for one in alive]
    kill(process)
    assert not left, f"left {SECONDS_TO_END} s after the {victim} was killed: {left}"


if __name__ == "__main__":
    sys.exit(main())
