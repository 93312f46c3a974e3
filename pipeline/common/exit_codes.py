"""Exit codes, and how they reach `pipeline.launch` past launchers, which have 1 for everything."""

import os
from pathlib import Path

EXIT_DEFECT = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: try again
EXIT_CODES = "CHARLSTM_EXIT_CODES"  # a folder in which `pipeline.launch` finds the exit codes that launchers hide


def leave_code(code: int) -> None:
    """For `pipeline.launch`, as `<start>-<process>`: torchrun may start processes several times."""
    if name := os.environ.get(EXIT_CODES):
        start, rank = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), os.environ.get("RANK", "0")
        (Path(name) / f"{start}-{rank}").write_text(str(code))


def code_of_all(folder: Path) -> int | None:
    """What the processes of the last start left in `folder`; None if they left nothing.

    When one fails, the others stop with 75. So any other code is the reason.
    """
    last, codes = 0, [0]
    for file in folder.iterdir():
        start, code = int(file.name.partition("-")[0]), file.read_text()
        if start > last:
            last, codes = start, [0]
        if start == last and code:
            codes.append(int(code))
    reasons = [code for code in codes if code not in (0, EXIT_INTERRUPTED)]
    return max(reasons, default=max(codes)) or None
