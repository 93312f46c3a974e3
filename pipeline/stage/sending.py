"""Starts the process that feeds MLflow while a stage works."""

import contextlib
import logging
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from charlstm.tracking.outbox import Outbox
from charlstm.tracking.runs import FINGERPRINT_TAG, Run
from charlstm.tracking.sender import Sent, read_sent
from pipeline.stage.background import SENDER, start
from pipeline.stage.settings import seconds
from pipeline.stage.tracking_store import spool_root

log = logging.getLogger("charlstm")

SECONDS_BETWEEN_LOOKS = 0.1


class SenderProcess:
    """`python -m pipeline.send SPOOL`; a closed pipe tells it that the stage has ended."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._patience = seconds("CHARLSTM_TRACKING_SECONDS")  # a wrong value ends the stage before its work, not after
        self._process = start(SENDER, str(spool), stdout=subprocess.DEVNULL)

    def close(self) -> None:
        """Let it send the rest. If it only waits, for a server that says nothing, leave the rest to the next stage."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        before, since = self._progress(), time.monotonic()
        while self._process.poll() is None and time.monotonic() - since < self._patience:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            if (now := self._progress()) != before:
                before, since = now, time.monotonic()
        if self._process.poll() is None:
            self._process.kill()
            sent = read_sent(self._spool)
            if sent is None or not sent.error:  # else it has said so itself
                log.warning(
                    "MLflow did not answer within %g s; nothing is lost: what is missing is sent later, or by "
                    "`charlstm sync`", self._patience,
                )  # fmt: skip
        self._process.wait()

    def _progress(self) -> tuple[Sent | None, float]:
        """Signs that the sender works: what is sent, and its processor time, of which a busy machine gives little."""
        with contextlib.suppress(psutil.Error):
            times = self._process.cpu_times()
            return read_sent(self._spool), round(times.user + times.system, 1)
        return read_sent(self._spool), 0.0


@contextlib.contextmanager
def node_metrics(fingerprint: str) -> Iterator[None]:
    """In training on several machines, have one process of each but the first send how busy its machine is."""
    node = int(os.environ.get("GROUP_RANK", "0"))  # torchrun's and accelerate's number of the machine
    if node == 0 or os.environ.get("LOCAL_RANK") != "0":
        yield
        return
    spool = f"{fingerprint}-node-{node}-{secrets.token_hex(4)}"
    run = Run(outbox(), spool, tag=FINGERPRINT_TAG, value=fingerprint, tags={}, is_found_only=True, node=f"node-{node}")
    try:
        yield
    finally:
        run.close()


def outbox(*, has_sender: bool = True) -> Outbox:
    """The outbox of this project's stages. Without a sender, what is written waits for `charlstm sync`."""
    return Outbox(spool_root(), _start_sender if has_sender else lambda spool: None)


def _start_sender(spool: Path) -> SenderProcess | None:
    try:
        return SenderProcess(spool)
    except OSError as error:  # no process or no memory left
        log.warning("MLflow gets nothing for now: %s; `charlstm sync` sends it later", error)
        return None
