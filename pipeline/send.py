"""Not a stage: the process that feeds MLflow from one spool while a stage works. See `pipeline.stage.sending`."""

import logging
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from charlstm.tracking.sender import follow
from pipeline.stage.exit_codes import EXIT_BAD_INPUT
from pipeline.stage.settings import seconds
from pipeline.stage.stage import guarded
from pipeline.stage.tracking_store import store

log = logging.getLogger("charlstm")

LOW_PRIORITY = 10  # training comes first; at 19, a busy machine would leave it nothing


def main(argv: Sequence[str]) -> int:
    """Send the spool `argv[0]` until standard input ends: the stage closes it, and the system if the stage dies."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the end of the stage is the end of this process
        signal.signal(number, signal.SIG_IGN)
    os.nice(LOW_PRIORITY)
    return guarded(lambda: _send(Path(argv[0])))


def _send(spool: Path) -> int:
    try:
        is_sent = follow(spool, store(), _has_ended, seconds("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"))
    except OSError as error:  # a full disk, a folder that was removed
        log.warning("MLflow gets nothing for now: %s; `charlstm sync` sends what is in the spool", error)
        return EXIT_BAD_INPUT
    return 0 if is_sent else EXIT_BAD_INPUT


def _has_ended(seconds: float) -> bool:
    is_ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(is_ready)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
