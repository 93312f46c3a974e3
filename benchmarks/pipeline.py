"""What the pipeline costs around training: imports, the way to the first step, a whole `dvc repro`, one with no work.

Usage: python -m benchmarks.pipeline [--rounds 5]

In a new project in a temporary folder, with tiny parameters, so that what is left is overhead. Figures are medians.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks.projects import ACCELERATE, LAUNCH, ROOT, kill, make_project, start

STAGES = ("download", "split", "encode", "train", "evaluate", "sample")
TRAIN = [*LAUNCH, *ACCELERATE, "-m", "pipeline.train"]
MAX_SECONDS_TO_FIRST_STEP = 5.0


def main() -> int:
    """Measure and print a Markdown table; the exit code is 1 if the first step comes too late."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    num_rounds = parser.parse_args().rounds
    console = Console(highlight=False, soft_wrap=True)

    def report(what: str, action: Callable[[], float]) -> float:
        seconds = statistics.median(action() for _ in range(num_rounds))
        console.print(f"| {what} | {seconds:.2f} |")
        return seconds

    console.print("| what | seconds |\n|---|---|")
    report("`python` alone", lambda: _seconds([sys.executable, "-c", "pass"], ROOT))
    for stage in STAGES:
        command = [sys.executable, "-c", f"import pipeline.{stage}"]
        report(f"import of `pipeline.{stage}`", partial(_seconds, command, ROOT))
    with tempfile.TemporaryDirectory(prefix="charlstm-pipeline-") as name:
        project = Path(name) / "project"
        make_project(project)
        for command in (["git", "init"], ["dvc", "init"]):
            subprocess.run([*command, "--quiet"], cwd=project, check=True)
        report("`dvc repro --force`, six stages", lambda: _seconds(["dvc", "repro", "--force"], project))
        report("`dvc repro` with nothing to do", lambda: _seconds(["dvc", "repro"], project))
        to_first_step = report("from the launcher's start to the first step", lambda: _seconds_to_first_step(project))
    return int(to_first_step > MAX_SECONDS_TO_FIRST_STEP)


def _seconds(command: list[str], folder: Path) -> float:
    started = time.perf_counter()
    environment = {**os.environ, "DVC_NO_ANALYTICS": "true"}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


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
