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
from pipeline.paths import Paths, load_paths

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: try again
EXIT_CODE_FILE = "CHARLSTM_EXIT_CODE_FILE"  # where `pipeline.launch` wants to find the code that launchers swallow
SECONDS_TO_LET_THE_FIRST_SPEAK = 3

Stage = Callable[[Params, Paths], None]


def run(stage: Stage, argv: Sequence[str] | None = None) -> int:
    """Run `stage` in the current folder; its exit code. A stage takes no options: `params.yaml` has them."""
    name = stage.__module__ if stage.__module__ != "__main__" else Path(sys.argv[0]).stem
    argparse.ArgumentParser(prog=f"python -m pipeline.{name.rpartition('.')[2]}", description=stage.__doc__).parse_args(
        argv
    )
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("charlstm").setLevel(logging.INFO)
    # A polite kill unwinds the stack like Ctrl-C does: temporary files go, the tracked run ends.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        stage(load_params(Path("params.yaml")), load_paths(Path("dvc.yaml")))
    except CharlstmError as error:
        return _fail(str(error), EXIT_BAD_INPUT)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", EXIT_BAD_INPUT)
    except Interrupted as interrupted:
        return _fail(f"interrupted: {interrupted}; the same command goes on from the last checkpoint", EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def _fail(message: str, code: int) -> int:
    """Say what is wrong, once for all processes that a launcher started.

    The first process speaks at once. The others wait: if it fails too, the launcher ends them before they repeat its
    line; if the trouble is theirs alone, they say so.
    """
    if name := os.environ.get(EXIT_CODE_FILE):
        Path(name).write_text(str(code))
    rank = int(os.environ.get("RANK", "0"))
    if rank > 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(SECONDS_TO_LET_THE_FIRST_SPEAK)
        message = f"process {rank}: {message}"
    logging.getLogger("charlstm").error(" ".join(message.split("\n")))
    return code
