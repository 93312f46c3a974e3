"""Starts the process that keeps a mirror of an unfinished training: see `pipeline.mirror`."""

import contextlib
import logging
import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from pipeline.stage.background import MIRROR_PROCESS, start
from pipeline.stage.settings import MIRROR, seconds

log = logging.getLogger("charlstm")

FETCH, CLEAR, FOLLOW = "fetch", "clear", "follow"  # what the process is asked for
NUM_READ = 65536  # bytes
SECONDS_BETWEEN_STARTS = 60.0  # where it is killed again and again


def fetch(folder: Path) -> None:
    """Bring the newest checkpoint of this training to `folder`, if it is newer than what is there."""
    _ask(FETCH, folder, "it is not asked for newer checkpoints")


def clear(folder: Path) -> None:
    """Remove the checkpoints of this training from the mirror."""
    _ask(CLEAR, folder, "old checkpoints may be left there")


@contextlib.contextmanager
def followed(folder: Path) -> Iterator["Follower"]:
    """A context in which new checkpoints of this training are copied to the mirror; at its end, the last one is."""
    follower = Follower(folder)
    try:
        yield follower
    finally:
        follower.finish()


class Follower:
    """The process that copies new checkpoints. Where it is killed, another one takes its place."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._process = folder, _start(FOLLOW, folder)
        self._started = time.monotonic()

    def look(self) -> None:
        """See whether it lives: to be called now and then."""
        process = self._process
        if process is None or process.poll() is None or process.returncode >= 0:  # it has said why it ended
            return
        if time.monotonic() - self._started > SECONDS_BETWEEN_STARTS:
            log.warning("the mirror's process was killed (signal %d): another one goes on", -process.returncode)
            with process:  # closes its pipes
                self._process, self._started = _start(FOLLOW, self._folder), time.monotonic()

    def finish(self) -> None:
        """Wait until the last checkpoint is copied."""
        _finish(self._process, "the last checkpoint is on this machine only")


def _ask(what: str, folder: Path, if_not: str) -> None:
    process = _start(what, folder)
    try:
        _finish(process, if_not)
    except BaseException:  # interrupted: it must not go on in a folder that somebody else may use soon
        if process is not None:
            with process:  # closes its pipes, and waits
                process.kill()
        raise


def _start(what: str, folder: Path) -> psutil.Popen | None:
    """The process; None without a mirror."""
    if not os.environ.get(MIRROR):
        return None
    try:
        return start(MIRROR_PROCESS, what, str(folder), stdout=subprocess.PIPE)
    except OSError as error:  # no process or no memory left
        log.warning("the mirror is not used: %s", error)
        return None


def _finish(process: psutil.Popen | None, if_not: str) -> None:
    """Tell it that there will be no more work, and wait while it says that bytes are moving."""
    if process is None:
        return
    assert process.stdout is not None and process.stdin is not None
    patience = seconds("CHARLSTM_CHECKPOINT_MIRROR_SECONDS")
    process.stdin.close()
    with process.stdout:
        while select.select([process.stdout], [], [], patience)[0]:
            if not os.read(process.stdout.fileno(), NUM_READ):
                break
        else:
            log.warning("the mirror did not answer within %g s: %s", patience, if_not)
            process.kill()
            process.wait()
            return
        if process.wait() < 0:
            log.warning("the mirror's process was killed (signal %d): %s", -process.returncode, if_not)
