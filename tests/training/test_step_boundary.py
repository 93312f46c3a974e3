"""How often processes agree whether to save or stop."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.projects import ROOT, torchrun
from charlstm.training.train import MAX_STEPS_BETWEEN_AGREEMENTS, steps_until_next

PROBE = """
import sys
import time
from charlstm.training.processes import Processes
from charlstm.training.train import StepBoundary

processes, asked = Processes("fp32"), []
boundary = StepBoundary(processes, None, lambda: bool(asked.append(None)))
first_step = 10_000  # as after a resume
boundary.start(first_step)
for step in range(first_step + 1, first_step + 13):
    time.sleep(0.25)
    assert not boundary.check(step, None)
sys.stdout.write(f"{len(asked)}\\n")  # in one piece: another process writes, too
processes.close()
"""


@pytest.mark.parametrize(
    ("seconds_per_step", "num_steps"),
    [(0.25, 4), (0.02, 50), (1e-6, MAX_STEPS_BETWEEN_AGREEMENTS), (0.0, 100), (30, 1)],
)
def test_about_one_agreement_a_second(seconds_per_step: float, num_steps: int) -> None:
    assert steps_until_next(seconds_per_step) == num_steps


@pytest.mark.slow
def test_two_processes_agree_once_a_second_from_the_step_at_which_they_resume(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(PROBE)
    done = subprocess.run(
        [*torchrun(2), str(tmp_path / "probe.py")],
        cwd=ROOT, env={"PATH": "", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = [int(line) for line in done.stdout.split()]
    assert len(counts) == 2
    assert all(3 <= count <= 6 for count in counts)  # 3 seconds
