"""Outboxes for tests: their spools are sent in this process, which has MLflow imported already."""

from pathlib import Path
from typing import Any

from charlstm.tracking.outbox import Outbox, Spool
from charlstm.tracking.sender import follow

from charlstm.tracking.client import Store, connect, find_or_create_experiment


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


def run_of(store: Store, training: str) -> Any:  # noqa: ANN401  # MLflow's entities have no annotations
    client, experiment_id = open_store(store)
    (run,) = client.search_runs([experiment_id], f"tags.training_id = '{training}'")
    return run


def points_of(store: Store, training: str, metric: str = "loss") -> list[int]:
    client, _ = open_store(store)
    return sorted(one.step for one in client.get_metric_history(run_of(store, training).info.run_id, metric))


def write(folder: Path, training: str, num_points: int, *, first: int = 0) -> Spool:
    """A training that writes so many points and says nothing of an end."""
    spool = Spool(folder)
    spool.append("start", tag="training_id", value=training, tags={}, is_open=True)
    for step in range(first, first + num_points):
        spool.append("metrics", points=[["loss", 1 / (step + 1), step, 1_700_000_000_000 + step]])
    return spool
