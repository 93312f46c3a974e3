"""What signals that end a training process mean: an interruption, or a crash of its own."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.projects import LAUNCH, ROOT
from pipeline.stage.exit_codes import classify_crashes, code_of_all, processes_gone

WORKER = """
import os, signal, sys, threading
from pipeline.stage.exit_codes import record_crashes
from pipeline.stage.exit_codes import GONE, record_exit_code

record_exit_code(GONE)
record_crashes()
code, _, end = sys.argv[1].rpartition(" ")
if code:
    record_exit_code(int(code))
if end.startswith("SIG"):
    die = lambda: os.kill(os.getpid(), getattr(signal, end))
    thread = threading.Thread(target=die)  # NCCL's watchdog is a thread, too
    thread.start()
    thread.join(60)
record_exit_code(int(end))
sys.exit(int(end))
"""


def environment(rank: int, world_size: int) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "RANK": str(rank), "WORLD_SIZE": str(world_size)}


@pytest.mark.parametrize(
    ("world_size", "ends", "code", "gone"),
    [
        (2, ["SIGABRT", "75"], 75, "process 0 is"),  # gloo: the other loses contact, and says so
        (2, ["SIGKILL", "SIGABRT"], 75, "processes 0, 1 are"),  # NCCL: its watchdog aborts the other
        (2, ["SIGABRT", "SIGABRT"], 75, "processes 0, 1 are"),
        (2, ["SIGABRT"], 75, "process 0 is"),  # the other was on another machine
        (1, ["SIGKILL"], 75, "process 0 is"),
        (1, ["SIGABRT"], 1, ""),  # there is no other that may be lost: a failed check
        (2, ["SIGSEGV", "75"], 1, ""),
        (2, ["SIGABRT", "SIGBUS"], 1, "process 0 is"),
        (2, ["2", "SIGKILL"], 2, "process 1 is"),  # the launcher kills what does not end
        (2, ["0", "0"], None, ""),
        (2, ["75 SIGSEGV", "75"], 75, ""),  # its work was done, and Python crashed while it ended
        (1, ["2 SIGABRT"], 2, ""),
    ],
)
def test_a_signal_is_an_interruption_unless_the_process_is_at_fault(
    tmp_path: Path, world_size: int, ends: list[str], code: int | None, gone: str
) -> None:
    for rank, end in enumerate(ends):
        done = subprocess.run(
            [sys.executable, "-c", WORKER, end],
            env=environment(rank, world_size) | {"CHARLSTM_EXIT_CODES": str(tmp_path)}, capture_output=True, timeout=60,
        )  # fmt: skip
        last = end.split()[-1]
        expected = {-getattr(signal, last)} if last.startswith("SIG") else {int(last)}
        if last == "SIGABRT":  # Python's handler walks the frames of a thread that runs, which may fault
            expected.add(-signal.SIGSEGV)
        assert done.returncode in expected, done.stderr
    traces = classify_crashes(tmp_path)
    assert code_of_all(tmp_path) == code
    assert processes_gone(tmp_path) == (f"{gone} gone: killed, out of memory, or aborted" if gone else "")
    assert len(traces) == sum("SIG" in end and end != "SIGKILL" for end in ends)
    assert all("Fatal Python error" in trace and "most recent call first" in trace for trace in traces)


@pytest.mark.parametrize(("end", "code", "line"), [
    ("SIGABRT", 75, "ERROR: interrupted: processes 0, 1 are gone: killed, out of memory, or aborted; the same command"),
    ("SIGSEGV", 1, "ERROR: a training process died of a signal:\nprocess 1 of 2\nFatal Python error: Segmentation"),
])  # fmt: skip
def test_the_launcher_says_what_its_processes_died_of(tmp_path: Path, end: str, code: int, line: str) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    worker = f"{shlex.quote(sys.executable)} worker.py {end}"
    both = f"for RANK in 0 1; do export RANK WORLD_SIZE=2; {worker} & done; wait; exit 1"
    done = subprocess.run(
        [*LAUNCH, "sh", "-c", both],
        cwd=tmp_path, env=environment(0, 1), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_only_the_last_start_counts(tmp_path: Path) -> None:
    for start, end in (("0", "SIGSEGV"), ("1", "SIGKILL")):
        more = {"CHARLSTM_EXIT_CODES": str(tmp_path), "TORCHELASTIC_RESTART_COUNT": start}
        subprocess.run(
            [sys.executable, "-c", WORKER, end], env=environment(0, 2) | more, capture_output=True, timeout=60
        )
    assert len(classify_crashes(tmp_path)) == 1
    assert code_of_all(tmp_path) == 75
