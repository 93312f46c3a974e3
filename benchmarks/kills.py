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
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.harness import console, new_parser
from benchmarks.projects import (
    kill,
    make_encoded_project,
    results,
    run,
    start,
    training_command,
)

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
CHECKPOINT_SECONDS = "0.2"
MAX_START_SECONDS = 6.0
MAX_TRAINING_SECONDS = 2.0


def main() -> int:
    """Kill, resume, compare; the exit code is 1 if a byte differs."""
    parser = new_parser(__doc__)
    parser.add_argument("--count", type=int, default=100, help="number of kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    generator, moments = random.Random(arguments.seed), Counter[str]()
    kills_each = min(KILLS_PER_TRAINING, -(-arguments.count // len(WORLDS)))  # so that each number has its turn
    num_trainings = num_wrong = num_half_written = 0
    with tempfile.TemporaryDirectory(prefix="charlstm-kills-") as name:
        folder = Path(name)
        template = folder / "template"
        make_encoded_project(template, OVERRIDE)
        expected = {}
        for world in WORLDS:
            shutil.copytree(template, folder / f"reference-{world}")
            run(folder / f"reference-{world}", training_command(world), folder / "log")
            expected[world] = results(folder / f"reference-{world}")
            assert "absent" not in expected[world].values(), (folder / "log").read_text()
        while moments.total() < arguments.count:
            world = WORLDS[num_trainings % len(WORLDS)]
            project, log = folder / f"training-{num_trainings}", folder / f"log-{num_trainings}"
            shutil.copytree(template, project)
            for _ in range(min(kills_each, arguments.count - moments.total())):
                moments[_start_and_kill(project, world, log, generator)] += 1
                num_half_written += len(list(project.glob(".charlstm/*/.step-*")))
            code = run(project, training_command(world), log)
            is_right = code == 0 and results(project) == expected[world]
            num_wrong += not is_right
            num_trainings += 1
            verdict = "identical" if is_right else f"DIFFERENT (exit code {code})\n{log.read_text()[-2000:]}"
            console.print(f"{moments.total():4d} kills, training {num_trainings} of {world} process(es): {verdict}")
            shutil.rmtree(project)
    console.print(
        f"{moments.total()} kills ({', '.join(f'{number} {moment}' for moment, number in moments.items())}; "
        f"{num_half_written} left a half-written checkpoint), {num_trainings} trainings, {num_wrong} with other bytes"
    )
    return int(num_wrong > 0)


def _start_and_kill(project: Path, world: int, log: Path, generator: random.Random) -> str:
    """One start that does not live; what it was doing."""
    return start_and_kill(project, world, log, generator, "writing", lambda: any(project.glob(".charlstm/*/.step-*")))


def start_and_kill(
    project: Path,
    world: int,
    log: Path,
    generator: random.Random,
    special: str,
    is_special: Callable[[], bool],
    **variables: str,
) -> str:
    """The same, with the name of the moment that half of the kills wait for, and whether it has come."""
    offset = log.stat().st_size if log.exists() else 0
    variables = {"CHARLSTM_CHECKPOINT_SECONDS": CHECKPOINT_SECONDS, **variables}
    process = start(project, training_command(world), log, **variables)
    moment = generator.choice(["starting", "training", special, special])
    if moment == "starting":
        time.sleep(generator.uniform(0, MAX_START_SECONDS))
    else:
        while process.poll() is None and b"parameters, " not in log.read_bytes()[offset:]:
            time.sleep(0.02)
        deadline = time.monotonic() + generator.uniform(0, MAX_TRAINING_SECONDS)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        while moment == special and process.poll() is None and not is_special():
            time.sleep(0.0005)
    moment = moment if process.poll() is None else "finished before"
    kill(process)
    return moment


if __name__ == "__main__":
    sys.exit(main())
