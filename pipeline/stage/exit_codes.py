"""Exit codes, and how they reach `pipeline.launch` past launchers, which have 1 for everything.

A process that dies of a signal leaves no code. What it left when it began says so: `GONE`. That is an interruption
(the out-of-memory killer, a machine that goes down, NCCL's watchdog, which aborts what has lost another process),
unless it left the trace of a crash, see below.
"""

import contextlib
import faulthandler
import os
import re
from pathlib import Path

EXIT_DEFECT = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: try again
EXIT_CODES = "CHARLSTM_EXIT_CODES"  # a folder in which `pipeline.launch` finds the exit codes that launchers hide
GONE = "gone"


def leave_code(code: int | str) -> None:
    """For `pipeline.launch`. A process leaves `GONE` when it begins, and its code when it ends.

    A full disk must not make a failure of a training that has ended well.
    """
    if (file := left_file()) is not None:
        with contextlib.suppress(OSError):
            file.write_text(str(code))


def left_file() -> Path | None:
    """The file of this process, `<start>-<process>`: torchrun may start processes several times."""
    if name := os.environ.get(EXIT_CODES):
        start, rank = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), os.environ.get("RANK", "0")
        return Path(name) / f"{start}-{rank}"
    return None


def code_of_all(folder: Path) -> int | None:
    """What the processes of the last start left in `folder`; None if they left nothing.

    When one fails or is gone, the others stop with 75. So any other code is the reason.
    """
    left = _left_by_rank(folder)
    codes = [EXIT_INTERRUPTED if text == GONE else int(text) for text in left.values()]
    reasons = [code for code in codes if code not in (0, EXIT_INTERRUPTED)]
    return max(reasons, default=max(codes, default=0)) or None


def processes_gone(folder: Path) -> str:
    """Which processes of the last start died without a word, for a message; empty if none did."""
    ranks = [str(rank) for rank, text in _left_by_rank(folder).items() if text == GONE]
    if not ranks:
        return ""
    which = f"process {ranks[0]} is" if len(ranks) == 1 else f"processes {', '.join(ranks)} are"
    return f"{which} gone: killed, out of memory, or aborted"


def _left_by_rank(folder: Path) -> dict[int, str]:
    """What each process of the last start left, but for one that was killed while it wrote."""
    named = []
    for file in [file for file in folder.iterdir() if not file.suffix]:
        start, rank = map(int, file.name.split("-"))
        named.append((start, rank, file.read_text()))
    last = max((start for start, _, _ in named), default=0)
    return {rank: text for start, rank, text in sorted(named) if start == last and text}


# Crashes of the training processes: signals that a fault of the process itself raises, such as SIGSEGV.
#
# Python's fault handler writes where the process was into a file beside its exit code. SIGKILL leaves no trace, and
# SIGABRT is two things: of a process among several it may be NCCL's watchdog, which aborts what has lost another
# process; of one alone it is a failed check in C++ code.

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
