"""One of two processes fails in every way, in every phase: both must end within 60 seconds.

Usage: python -m benchmarks.faults [--ways raise,kill] [--phases step,validation]

After an error, the run in MLflow must be FAILED with the reason. After a process was lost, the
run must be KILLED or FAILED, because the other process knows no reason. Before training starts,
there is no run.
"""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import product
from pathlib import Path

import psutil
import torch

from benchmarks.harness import console, new_parser, print_table
from tests.support.faulty import PHASES, WAYS
from tests.support.projects import LAUNCH, ROOT, family, kill, make_encoded_project, start, torchrun

FAULTY = str(ROOT / "tests/support/faulty.py")
OVERRIDE = {"train.epochs": 3, "train.early_stopping_epochs": None, "train.log_every_steps": 7}
BEFORE_THE_RUN = ("load", "meet", "restore")  # phases
WITH_REASON = ("raise", "memory")  # ways
SECONDS_TO_END = 60
MAX_SECONDS = 120  # of a start and a failure


def main() -> int:
    """Let each way fail in each phase, and print a Markdown table. Return 1 if one is wrong."""
    parser = new_parser(__doc__)
    parser.add_argument("--ways", default=",".join(WAYS), help="names, separated by commas")
    parser.add_argument("--phases", default=",".join(PHASES), help="names, separated by commas")
    arguments = parser.parse_args()
    if torch.cuda.device_count() == 1:
        console.print("two processes need two GPUs: skipped")
        return 0
    cases = list(product(arguments.phases.split(","), arguments.ways.split(",")))
    wrong: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory(prefix="charlstm-faults-", ignore_cleanup_errors=True) as name:
        template = Path(name) / "template"
        make_encoded_project(template, OVERRIDE)

        def rows() -> Iterator[tuple[object, ...]]:
            for phase, way in cases:
                row, is_right = fail(template, phase, way)
                if not is_right:
                    wrong.append((phase, way))
                yield phase, way, *row, "yes" if is_right else "NO"

        columns = ("phase", "way", "exit code", "seconds", "run", "reason", "as expected")
        print_table(columns, rows())
    console.print(f"{len(cases)} faults, {len(wrong)} wrong")
    return int(len(wrong) > 0)


def fail(template: Path, phase: str, way: str) -> tuple[tuple[object, ...], bool]:
    """Train in a copy of `template` until the fault. Return a row, and whether it is right."""
    project = template.with_name(f"{phase}-{way}")
    shutil.copytree(template, project)
    log = project / "log"
    command = [*LAUNCH, *torchrun(2), FAULTY, "1", phase, way]
    process = start(project, command, log, CHARLSTM_TIMEOUT_SECONDS="7")
    deadline = time.monotonic() + MAX_SECONDS
    while process.poll() is None and not (project / "fault").exists():
        time.sleep(0.05)
        if time.monotonic() > deadline:
            break
    failed_at = time.monotonic()
    others = family(process)[1:]
    with suppress(subprocess.TimeoutExpired):
        process.wait(SECONDS_TO_END)
    _, alive = psutil.wait_procs(others, timeout=1)
    seconds = time.monotonic() - failed_at
    code = process.poll()
    kill(process)
    status, reason = run_of(project)
    has_reason = way not in WITH_REASON or "process 1: " in reason
    expected = [""] if phase in BEFORE_THE_RUN else ["FAILED"]
    if way not in WITH_REASON and phase not in BEFORE_THE_RUN:
        expected += ["KILLED"]
    is_right = (
        not alive
        and code not in (None, 0)
        and (project / "fault").exists()
        and status in expected
        and (has_reason or phase in BEFORE_THE_RUN)
    )
    if not is_right:
        console.print(log.read_text()[-1500:])
    return (code, f"{seconds:.0f}", status or "none", reason[:60]), is_right


def run_of(project: Path) -> tuple[str, str]:
    """Return the status of the only run in MLflow, and the reason why it ended."""
    if not (project / "mlflow.db").exists():
        return "", ""
    with closing(sqlite3.connect(project / "mlflow.db")) as store:
        runs = store.execute("select status from runs").fetchall()
        reasons = store.execute("select value from tags where key = 'ended'").fetchall()
    (status,) = runs[0] if len(runs) == 1 else (f"{len(runs)} runs",)
    return status, reasons[0][0] if reasons else ""


if __name__ == "__main__":
    sys.exit(main())
