"""What the pipeline costs around training: imports, the way to the first step, whole runs, and texts of any size.

Usage: python -m benchmarks.pipeline [--rounds 5]
       python -m benchmarks.pipeline --gigabytes 1

Without `--gigabytes`: a new project in a temporary folder, with tiny parameters, so that what is left is overhead.
Figures are medians. The exit code is 1 if the first step comes too late.

With it: how fast a text becomes ids, and in how much memory. It is random, and made in a temporary folder ($TMPDIR),
which needs room for four times its size. Each stage runs in a process of its own, as `dvc repro` runs it. Memory is
the most that it had beyond what it had after its imports.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.harness import new_parser, print_table, take_turns
from tests.support.projects import ACCELERATE, LAUNCH, ROOT, kill, make_project, start

STAGES = ("download", "split", "encode", "train", "evaluate", "sample")
MAX_SECONDS_TO_FIRST_STEP = 5.0
CHARACTERS = "etaoinshrdlcumwfgypbvkjxqz ,.\nоеаинтсрвлкмдпуяы一丁七万丈三上下不与😀😁😂"  # of one to four bytes
BLOCK_CHARS = 1_000_000  # of which a text repeats
GB, MB = 1e9, 1e6


def main() -> int:
    """Measure and print a Markdown table."""
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--gigabytes", type=float, help="of a text")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="charlstm-pipeline-") as name:
        folder = Path(name)
        if arguments.gigabytes is None:
            return measure_overhead(folder / "project", arguments.rounds)
        print_table(
            ("stage", "GB/s", "seconds", "of a core", "memory"),
            stages(folder / "project", arguments.gigabytes),
        )
    return 0


def measure_overhead(project: Path, num_rounds: int) -> int:
    """Print seconds; 1 if the first step comes too late."""
    make_project(project)

    def run(*command: str) -> None:
        environment = {**os.environ, "DVC_NO_ANALYTICS": "true"}
        subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True)

    run("git", "init", "--quiet")
    run("dvc", "init", "--quiet")
    commands = {
        f"import of `pipeline.{stage}`": [sys.executable, "-c", f"import pipeline.{stage}"]
        for stage in STAGES
    }
    commands["`dvc repro --force`, six stages"] = ["dvc", "repro", "--force"]
    commands["`dvc repro` with nothing to do"] = ["dvc", "repro"]
    seconds = take_turns(
        {what: partial(run, *command) for what, command in commands.items()}, num_rounds
    )
    first_step = statistics.median(seconds_to_first_step(project) for _ in range(num_rounds))
    seconds["from the launcher's start to the first step"] = first_step
    print_table(("what", "seconds"), ((what, f"{value:.2f}") for what, value in seconds.items()))
    return int(first_step > MAX_SECONDS_TO_FIRST_STEP)


def seconds_to_first_step(project: Path) -> float:
    """Until the line that is printed right before it."""
    log = project / "log"
    log.unlink(missing_ok=True)
    started = time.perf_counter()
    process = start(project, [*LAUNCH, *ACCELERATE, "-m", "pipeline.train"], log)
    while b"parameters, " not in log.read_bytes():
        if process.poll() is not None:
            raise RuntimeError(log.read_text())
        time.sleep(0.01)
    seconds = time.perf_counter() - started
    kill(process)
    return seconds


def stages(project: Path, gigabytes: float) -> Iterator[tuple[str, ...]]:
    """A row for each stage that reads a text."""
    make_project(project)
    block = "".join(np.random.default_rng(1).choice(list(CHARACTERS), BLOCK_CHARS)).encode()
    with (project / "text.txt").open("wb") as file:
        file.writelines(block for _ in range(int(gigabytes * GB / len(block))))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for stage in STAGES[:3]:
        command = [
            sys.executable,
            "-c",
            f"from benchmarks.pipeline import be_stage; be_stage({stage!r})",
        ]
        seconds, processor, memory = json.loads(
            subprocess.check_output(command, cwd=project, env=environment)
        )
        figures = f"{gigabytes / seconds:.2f}", f"{seconds:.1f}", f"{processor / seconds:.0%}"
        yield stage, *figures, f"{memory / MB:.0f} MB"


def be_stage(stage: str) -> None:
    """Run a stage in the current folder; its seconds, processor seconds and bytes of memory, as JSON."""
    module, load = import_module(f"pipeline.{stage}"), import_module("pipeline.run.stage").load
    before, started, cpu_started = (
        memory_of_process("VmRSS"),
        time.perf_counter(),
        time.process_time(),
    )
    module.run(*load())
    used = [
        time.perf_counter() - started,
        time.process_time() - cpu_started,
        memory_of_process("VmHWM") - before,
    ]
    sys.stdout.write(json.dumps(used))


def memory_of_process(name: str) -> int:
    """What Linux says, in bytes. `getrusage` would count the process that started this one, too."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0


if __name__ == "__main__":
    sys.exit(main())
