"""Crashes of the training processes: signals that a fault of the process itself raises, such as SIGSEGV.

Python's fault handler writes where the process was into a file beside its exit code. SIGKILL leaves no trace, and
SIGABRT is two things: of a process among several it may be NCCL's watchdog, which aborts what has lost another process;
of one alone it is a failed check in C++ code.
"""

import contextlib
import faulthandler
import os
import re
from pathlib import Path

from pipeline.common.exit_codes import EXIT_DEFECT, GONE, left_file

SUFFIX = ".trace"
HEAD = "process {rank} of {world_size}\n"
FATAL = re.compile(r"process \d+ of (?P<world_size>\d+)\nFatal Python error: (?P<what>.*)")
ABORTED = "Aborted"


def leave_traces() -> None:
    """From now on a crash of this process is written down, if `pipeline.launch` has started it."""
    if (file := left_file()) is not None:
        with contextlib.suppress(OSError):  # a full disk
            trace = os.open(file.with_suffix(SUFFIX), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            head = HEAD.format(rank=os.environ.get("RANK", "0"), world_size=os.environ.get("WORLD_SIZE", "1"))
            os.write(trace, head.encode())
            faulthandler.enable(trace)


def judge(folder: Path) -> list[str]:
    """The traces of all crashes, by start and process; a process at fault gets the exit code of a defect.

    One that had left a code was through with its work, and crashed when Python ended: its code stays.
    """
    found = []
    for file in sorted(folder.glob(f"*{SUFFIX}"), key=lambda file: [int(number) for number in file.stem.split("-")]):
        trace = file.read_text(errors="replace")
        if (fatal := FATAL.match(trace)) is not None:
            found.append(trace)
            code, is_at_fault = file.with_suffix(""), fatal["what"] != ABORTED or fatal["world_size"] == "1"
            if is_at_fault and (not code.exists() or code.read_text() == GONE):
                code.write_text(str(EXIT_DEFECT))
    return found
