"""Exit codes, and how they reach `pipeline.launch` past launchers, which have 1 for everything.

A process that dies of a signal records no code. What it recorded when it began says so: `GONE`. That is an interruption
(the out-of-memory killer, a machine that goes down, NCCL's watchdog, which aborts what has lost another process),
unless there is the trace of a crash, see below.
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


def rank() -> int:
    """The number of this process among those of a training, as launchers say it; 0 if they do not, or say it oddly."""
    return max(0, count(os.environ.get("RANK", "0")))


def count(value: str) -> int:
    """A number of at most nine decimal digits; -1 for anything else."""
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else -1


def record_exit_code(code: int | str) -> None:
    """Record an exit code for `pipeline.launch`: `GONE` when a process begins, and its code when it ends.

    A full disk must not make a failure of a training that has ended well.
    """
    if (file := _file_of_this_process()) is not None:
        with contextlib.suppress(OSError):
            file.write_text(str(code))


def _file_of_this_process() -> Path | None:
    """`<start>-<process>`: torchrun may start processes several times."""
    if name := os.environ.get(EXIT_CODES):
        return Path(name) / f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}-{rank()}"
    return None


def code_of_all(folder: Path) -> int | None:
    """The exit code that the processes of the last start recorded in `folder`; None if they recorded no failure.

    When one fails or is gone, the others stop with 75. So any other code is the reason.
    """
    codes = [EXIT_INTERRUPTED if text == GONE else int(text) for text in _recorded_by_rank(folder).values()]
    reasons = [code for code in codes if code not in (0, EXIT_INTERRUPTED)]
    return max(reasons or codes, default=0) or None


def processes_gone(folder: Path) -> str:
    """Which processes of the last start died without a word, for a message; empty if none did."""
    ranks = [str(number) for number, text in _recorded_by_rank(folder).items() if text == GONE]
    if not ranks:
        return ""
    which = f"process {ranks[0]} is" if len(ranks) == 1 else f"processes {', '.join(ranks)} are"
    return f"{which} gone: killed, out of memory, or aborted"


def _recorded_by_rank(folder: Path) -> dict[int, str]:
    """The records of the last start's processes, by rank, but for one that was killed while it wrote."""
    by_start: dict[int, dict[int, str]] = {}
    for file in folder.iterdir():
        if not file.suffix:
            start, number = map(int, file.name.split("-"))
            by_start.setdefault(start, {})[number] = file.read_text()
    last = by_start[max(by_start)] if by_start else {}
    return {number: text for number, text in sorted(last.items()) if text}


# Crashes of the training processes: signals that a fault of the process itself raises, such as SIGSEGV.
#
# Python's fault handler writes where the process was into a file beside its exit code. SIGKILL leaves no trace, and
# SIGABRT is two things: of a process among several it may be NCCL's watchdog, which aborts what has lost another
# process; of a single process it is a failed check in C++ code.

SUFFIX = ".trace"
FATAL = re.compile(r"process \d+ of (?P<world_size>\d+)\nFatal Python error: (?P<what>.*)")


def record_crashes() -> None:
    """From now on, have a crash of this process written down, if `pipeline.launch` has started it."""
    if (file := _file_of_this_process()) is not None:
        with contextlib.suppress(OSError):  # a full disk
            trace = os.open(file.with_suffix(SUFFIX), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            os.write(trace, f"process {rank()} of {os.environ.get('WORLD_SIZE', 1)}\n".encode())
            faulthandler.enable(trace)


def classify_crashes(folder: Path) -> list[str]:
    """The traces of all crashes, by start and process; a process at fault gets the exit code of a defect.

    One that had recorded a code was through with its work, and crashed when Python ended: its code stays.
    """
    traces = []
    for file in sorted(folder.glob(f"*{SUFFIX}"), key=lambda file: [int(number) for number in file.stem.split("-")]):
        trace = file.read_text(errors="replace")
        if (fatal := FATAL.match(trace)) is not None:
            traces.append(trace)
            code, is_at_fault = file.with_suffix(""), fatal["what"] != "Aborted" or fatal["world_size"] == "1"
            if is_at_fault and (not code.exists() or code.read_text() == GONE):
                code.write_text(str(EXIT_DEFECT))
    return traces
