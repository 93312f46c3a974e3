"""Outboxes for tests: their spools are sent in this process, which has MLflow imported already."""

from pathlib import Path

from charlstm.tracking.client import Store
from charlstm.tracking.runs import Outbox
from charlstm.tracking.sender import follow


class DirectSender:
    """Sends all of a spool when it is closed."""

    def __init__(self, spool: Path, store: Store) -> None:
        self._spool, self._store = spool, store

    def close(self) -> None:
        follow(self._spool, self._store, lambda seconds: True)


def outbox(root: Path, store: Store) -> Outbox:
    return Outbox(root, lambda spool: DirectSender(spool, store))
