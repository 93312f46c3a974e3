"""Outboxes for tests: their spools are sent in this process, which has MLflow imported already."""

from pathlib import Path
from typing import Any

from charlstm.tracking.client import Store, connect, find_or_create_experiment
from charlstm.tracking.outbox import Outbox
from charlstm.tracking.sender import follow


class DirectSender:
    """Sends all of a spool when it is closed."""

    def __init__(self, spool: Path, store: Store) -> None:
        self._spool, self._store = spool, store

    def close(self) -> None:
        follow(self._spool, self._store, lambda seconds: True)


def outbox(root: Path, store: Store) -> Outbox:
    return Outbox(root, lambda spool: DirectSender(spool, store))


def open_store(store: Store, corpus: str = "") -> tuple[Any, str]:
    """MLflow's client, and the id of the experiment for that corpus."""
    client = connect(store)
    return client, find_or_create_experiment(client, store, corpus)
