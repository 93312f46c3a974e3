"""SIGKILL at random moments: does every resumed training end in the bytes of one that was not disturbed?

Usage: python -m benchmarks.kills [--count 100] [--seed 0]

Trainings of one and of two processes take turns. Each is killed with all its processes a few times, then left to
finish. A quarter of the kills come while the processes start, a quarter in the middle of training, and half at the
moment when a checkpoint begins to be written.
"""

import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from benchmarks.harness import console, new_parser
from benchmarks.projects import kill, make_encoded_project, results, run, start, training_command

KILLS_PER_TRAINING = 5
WORLDS = (1,) if torch.cuda.device_count() == 1 else (1, 2)  # NCCL has one process for each GPU
OVERRIDE = {
    "model.hidden_size": 64,
    "train.epochs": 8,
    "train.early_stopping_epochs": None,
    "train.log_every_steps": 7,  # so that most checkpoints fall between two rows
    "train.dropout.output": 0.3,
    "train.initial": "initial",
    "train.state_reset_probability": 0.05,
}
MAX_START_SECONDS, MAX_TRAINING_SECONDS = 6.0, 2.0


def main() -> int:
    """Kill, resume, compare; the exit code is 1 if a byte differs."""
    parser = new_parser(__doc__)
    parser.add_argument("--count", type=int, default=100, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    generator, moments = random.Random(arguments.seed), Counter[str]()
    kills_each = min(KILLS_PER_TRAINING, -(-arguments.count // len(WORLDS)))  # so that each number has its turn
    num_trainings = num_wrong = 0
    with tempfile.TemporaryDirectory(prefix="charlstm-kills-") as name:
        folder = Path(name)
        template, expected = train_undisturbed(folder)
        while moments.total() < arguments.count:
            world = WORLDS[num_trainings % len(WORLDS)]
            project, log = folder / f"training-{num_trainings}", folder / f"log-{num_trainings}"
            shutil.copytree(template, project)
            for _ in range(min(kills_each, arguments.count - moments.total())):
                moments[start_and_kill(project, world, log, generator)] += 1
            code = run(project, training_command(world), log)
            is_right = code == 0 and results(project) == expected[world]
            num_wrong += not is_right
            num_trainings += 1
            verdict = "identical" if is_right else f"DIFFERENT (exit code {code})\n{log.read_text()[-2000:]}"
            console.print(f"{moments.total():4d} kills, training {num_trainings} of {world} process(es): {verdict}")
    console.print(f"{in_words(moments)}; {num_trainings} trainings, {num_wrong} with other bytes")
    return int(num_wrong > 0)


def train_undisturbed(folder: Path) -> tuple[Path, dict[int, dict[str, str]]]:
    """A project with everything but a training, and what a training writes, by the number of processes."""
    template, log, expected = folder / "template", folder / "log", {}
    make_encoded_project(template, OVERRIDE)
    for world in WORLDS:
        project = folder / f"undisturbed-{world}"
        shutil.copytree(template, project)
        assert run(project, training_command(world), log) == 0, log.read_text()
        expected[world] = results(project)
    return template, expected


def in_words(moments: Counter[str]) -> str:
    """How many starts were killed, and when."""
    return f"{moments.total()} killed ({', '.join(f'{number} {moment}' for moment, number in moments.items())})"


def start_and_kill(project: Path, world: int, log: Path, generator: random.Random, **variables: str) -> str:
    """One start that does not live; what it was doing. Half of the kills wait until a checkpoint is being written."""
    offset = log.stat().st_size if log.exists() else 0
    process = start(project, training_command(world), log, CHARLSTM_CHECKPOINT_SECONDS="0.2", **variables)
    moment = generator.choice(["starting", "training", "saving", "saving"])
    if moment == "starting":
        time.sleep(generator.uniform(0, MAX_START_SECONDS))
    else:
        while process.poll() is None and b"parameters, " not in log.read_bytes()[offset:]:
            time.sleep(0.02)
        deadline = time.monotonic() + generator.uniform(0, MAX_TRAINING_SECONDS)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        while moment == "saving" and process.poll() is None and not any(project.glob(".charlstm/*/.step-*")):
            time.sleep(0.0005)
    moment = moment if process.poll() is None else "finished before"
    kill(process)
    return moment


if __name__ == "__main__":
    sys.exit(main())
