"""Cost of the pipeline around training: imports, the first step, whole runs, texts of any size.

Usage: python -m benchmarks.pipeline [--rounds 5]
       python -m benchmarks.pipeline --gigabytes 1

Without `--gigabytes`, a new project in a temporary folder has tiny parameters, so that only the
overhead remains. Figures are medians. The exit code is 1 if the first step comes too late.

With `--gigabytes`, the command measures the speed and the memory in which a text becomes ids. The
text is random, in a temporary folder ($TMPDIR) that needs four times its size. Each stage runs in
its own process, as in `dvc repro`. Memory is the peak beyond the memory after the imports.
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
# Characters of one to four bytes.
CHARACTERS = "etaoinshrdlcumwfgypbvkjxqz ,.\nоеаинтсрвлкмдпуяы一丁七万丈三上下不与😀😁😂"
BLOCK_CHARS = 1_000_000  # a text repeats a block of this length
GB = 1e9
MB = 1e6


def main() -> int:
    """Measure and print a Markdown table."""
    parser = new_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="number of measurements")
    parser.add_argument("--gigabytes", type=float, help="size of a text")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="charlstm-pipeline-") as name:
        folder = Path(name)
        if arguments.gigabytes is None:
            return measure_overhead(folder / "project", arguments.rounds)
        rows = stages(folder / "project", arguments.gigabytes)
        print_table(("stage", "GB/s", "seconds", "of a core", "memory"), rows)
    return 0


def measure_overhead(project: Path, num_rounds: int) -> int:
    """Print seconds. Return 1 if the first step comes too late."""
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
    actions = {what: partial(run, *command) for what, command in commands.items()}
    seconds = take_turns(actions, num_rounds)
    first_step = statistics.median(seconds_to_first_step(project) for _ in range(num_rounds))
    seconds["from the launcher's start to the first step"] = first_step
    print_table(("what", "seconds"), ((what, f"{value:.2f}") for what, value in seconds.items()))
    return int(first_step > MAX_SECONDS_TO_FIRST_STEP)


def seconds_to_first_step(project: Path) -> float:
    """Return the seconds until the line that is printed just before the first step."""
    log = project / "log"
    log.unlink(missing_ok=True)
    started = time.perf_counter()
    process = start(project, [*LAUNCH, *ACCELERATE, "-m", "pipeline", "train"], log)
    while b"parameters, " not in log.read_bytes():
        if process.poll() is not None:
            raise RuntimeError(log.read_text())
        time.sleep(0.01)
    seconds = time.perf_counter() - started
    kill(process)
    return seconds


def stages(project: Path, gigabytes: float) -> Iterator[tuple[str, ...]]:
    """Yield a row for each stage that reads a text."""
    make_project(project)
    block = "".join(np.random.default_rng(1).choice(list(CHARACTERS), BLOCK_CHARS)).encode()
    with (project / "text.txt").open("wb") as file:
        file.writelines(block for _ in range(int(gigabytes * GB / len(block))))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for stage in STAGES[:3]:
        code = f"from benchmarks.pipeline import be_stage; be_stage({stage!r})"
        command = [sys.executable, "-c", code]
        measured = subprocess.check_output(command, cwd=project, env=environment)
        seconds, processor, memory = json.loads(measured)
        figures = f"{gigabytes / seconds:.2f}", f"{seconds:.1f}", f"{processor / seconds:.0%}"
        yield stage, *figures, f"{memory / MB:.0f} MB"


def be_stage(stage: str) -> None:
    """Run a stage in the current folder. Print its seconds, processor seconds and memory."""
    module = import_module(f"pipeline.{stage}")
    stage_inputs = import_module("pipeline.run.stage").start(stage)
    before = memory_of_process("VmRSS")
    started = time.perf_counter()
    cpu_started = time.process_time()
    module.run(stage_inputs)
    seconds = time.perf_counter() - started
    processor = time.process_time() - cpu_started
    memory = memory_of_process("VmHWM") - before
    sys.stdout.write(json.dumps([seconds, processor, memory]))


def memory_of_process(name: str) -> int:
    """Return Linux's number of bytes. `getrusage` would include the parent process."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0


if __name__ == "__main__":
    sys.exit(main())
