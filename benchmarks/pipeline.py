"""What the pipeline costs around training: imports, the way to the first step, a whole `dvc repro`, one with no work.

Usage: python -m benchmarks.pipeline [--rounds 5]

In a new project in a temporary folder, with tiny parameters, so that what is left is overhead. Figures are medians.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.harness import console, median_seconds, new_parser, print_table
from benchmarks.projects import ACCELERATE, LAUNCH, kill, make_project, start

STAGES = ("download", "split", "encode", "train", "evaluate", "sample")
TRAIN = [*LAUNCH, *ACCELERATE, "-m", "pipeline.train"]
MAX_SECONDS_TO_FIRST_STEP = 5.0


def main() -> int:
    """Measure and print a Markdown table; the exit code is 1 if the first step comes too late."""
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    num_rounds = parser.parse_args().rounds
    commands = {"`python` alone": [sys.executable, "-c", "pass"]}
    for stage in STAGES:
        commands[f"import of `pipeline.{stage}`"] = [sys.executable, "-c", f"import pipeline.{stage}"]
    commands["`dvc repro --force`, six stages"] = ["dvc", "repro", "--force"]
    commands["`dvc repro` with nothing to do"] = ["dvc", "repro"]

    def seconds_of(command: list[str]) -> float:
        return median_seconds(partial(_run, command, project), num_rounds)

    with tempfile.TemporaryDirectory(prefix="charlstm-pipeline-") as name:
        project = Path(name) / "project"
        make_project(project)
        for program in ("git", "dvc"):
            _run([program, "init", "--quiet"], project)
        print_table(("what", "seconds"), ((what, f"{seconds_of(command):.2f}") for what, command in commands.items()))
        to_first_step = statistics.median(_seconds_to_first_step(project) for _ in range(num_rounds))
        console.print(f"| from the launcher's start to the first step | {to_first_step:.2f} |")
    return int(to_first_step > MAX_SECONDS_TO_FIRST_STEP)


def _run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


def _seconds_to_first_step(project: Path) -> float:
    """Until the line that is printed right before it."""
    log = project / "log"
    log.unlink(missing_ok=True)
    started = time.perf_counter()
    process = start(project, TRAIN, log)
    while b"parameters, " not in log.read_bytes():
        if process.poll() is not None:
            raise RuntimeError(log.read_text())
        time.sleep(0.01)
    seconds = time.perf_counter() - started
    kill(process)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
