"""Speed and memory of the stages before training, for a text of any size.

Usage: python -m benchmarks.pipeline [--gigabytes 1]

The text is random, in a temporary folder ($TMPDIR) that needs four times its size. Each stage runs
in its own process, as in `dvc repro`. Memory is the peak beyond the memory after the imports.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np

from benchmarks.harness import new_parser, print_table
from tests.support.projects import ROOT, make_project

STAGES = ("download", "split", "encode")
# Characters of one to four bytes.
CHARACTERS = "etaoinshrdlcumwfgypbvkjxqz ,.\nоеаинтсрвлкмдпуяы一丁七万丈三上下不与😀😁😂"
BLOCK_CHARS = 1_000_000  # a text repeats a block of this length
GB = 1e9
MB = 1e6


def main() -> int:
    """Measure and print a Markdown table."""
    parser = new_parser(__doc__)
    parser.add_argument("--gigabytes", type=float, default=1, help="size of the text")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="charlstm-pipeline-") as name:
        rows = stages(Path(name) / "project", arguments.gigabytes)
        print_table(("stage", "GB/s", "seconds", "of a core", "memory"), rows)
    return 0


def stages(project: Path, gigabytes: float) -> Iterator[tuple[str, ...]]:
    """Yield a row for each stage that reads a text."""
    make_project(project)
    block = "".join(np.random.default_rng(1).choice(list(CHARACTERS), BLOCK_CHARS)).encode()
    with (project / "text.txt").open("wb") as file:
        file.writelines(block for _ in range(int(gigabytes * GB / len(block))))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for stage in STAGES:
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
