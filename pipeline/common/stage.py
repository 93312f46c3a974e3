"""What all stages share: load parameters and paths, run, and turn errors into one line and an exit code."""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from charlstm.errors import CharlstmError, Interrupted
from charlstm.params import Params, load_params
from pipeline.common.paths import Paths, load_paths

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: try again
EXIT_DEFECT = 1
EXIT_CODES = "CHARLSTM_EXIT_CODES"  # a folder, where `pipeline.launch` finds the codes that launchers swallow
SECONDS_TO_LET_THE_FIRST_SPEAK = 3

Stage = Callable[[Params, Paths], None]


def run(stage: Stage, argv: Sequence[str] | None = None) -> int:
    """Run `stage` in the current folder; its exit code. A stage takes no options: `params.yaml` has them."""
    name = stage.__module__ if stage.__module__ != "__main__" else Path(sys.argv[0]).stem
    argparse.ArgumentParser(prog=f"python -m pipeline.{name.rpartition('.')[2]}", description=stage.__doc__).parse_args(
        argv
    )

    def work() -> int:
        stage(*load())
        return 0

    return guarded(work)


def guarded(work: Callable[[], int]) -> int:
    """What `work` returns; or one line for what a user can mend, and an exit code that says which kind it is."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("charlstm").setLevel(logging.INFO)
    # A polite kill unwinds the stack like Ctrl-C does: temporary files go, the tracked run ends.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return work()
    except CharlstmError as error:
        return _fail(str(error), EXIT_BAD_INPUT)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", EXIT_BAD_INPUT)
    except Interrupted as interrupted:
        return _fail(f"interrupted: {interrupted}; the same command goes on from the last checkpoint", EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BaseException:
        _leave_code(EXIT_DEFECT)
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def load() -> tuple[Params, Paths]:
    """What the files of the current folder say now."""
    return load_params(Path("params.yaml")), load_paths(Path("dvc.yaml"))


def _fail(message: str, code: int) -> int:
    """Say what is wrong, once for all processes that a launcher started.

    The first process speaks at once. The others wait: if it fails too, the launcher ends them before they repeat its
    line; if the trouble is theirs alone, they say so.
    """
    _leave_code(code)
    rank = int(os.environ.get("RANK", "0"))
    if rank > 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(SECONDS_TO_LET_THE_FIRST_SPEAK)
        message = f"process {rank}: {message}"
    logging.getLogger("charlstm").error(" ".join(message.split("\n")))
    return code


def _leave_code(code: int) -> None:
    """For `pipeline.launch`, as `<start>-<process>`: torchrun may start processes several times."""
    if name := os.environ.get(EXIT_CODES):
        start, rank = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), os.environ.get("RANK", "0")
        (Path(name) / f"{start}-{rank}").write_text(str(code))


def code_of_all(folder: Path) -> int | None:
    """What the processes of the last start left in `folder`; None if they left nothing.

    One that fails takes the others with it, and those say 75: what the first one says is the reason.
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
