"""Not a stage: the process that feeds MLflow from one spool while a stage works. See `pipeline.stage.sending`."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from charlstm.tracking.sender import follow
from pipeline.stage.background import has_stage_ended, work_in_background
from pipeline.stage.settings import seconds
from pipeline.stage.stage import EXIT_BAD_INPUT
from pipeline.stage.tracking_store import store

log = logging.getLogger("charlstm")


def main(argv: Sequence[str]) -> int:
    """Send the spool `argv[0]` until the stage has ended."""
    return work_in_background(lambda: _send(Path(argv[0])))


def _send(spool: Path) -> int:
    try:
        is_sent = follow(spool, store(), has_stage_ended, seconds("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"))
    except OSError as error:  # a full disk, a folder that was removed
        log.warning("MLflow gets nothing for now: %s; `charlstm sync` sends what is in the spool", error)
        return EXIT_BAD_INPUT
    return 0 if is_sent else EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
