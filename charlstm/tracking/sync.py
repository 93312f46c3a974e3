"""The publication of trainings and stage outputs that are not in MLflow yet."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from charlstm.errors import TrackingError
from charlstm.files.lock import exclusive, holder_of
from charlstm.tracking.client import Store, ask, connect, describe, start_monitor
from charlstm.tracking.publish import (
    EPOCH_TEXTS,
    KILLED,
    RUNNING,
    TRAINING_TAG,
    Row,
    Snapshot,
    publish,
)

log = logging.getLogger(__name__)

# The files of a training's record (see training_record.py).
ORIGIN = "origin.json"
METRICS = "metrics.jsonl"
ENDING = "ending.json"
PUBLISHED = "published"
DISAPPEARED = (
    "the process disappeared: it was killed or aborted, ran out of memory, or the machine went down"
)
SECONDS_BEFORE_START = 0.1
SECONDS_BETWEEN_CALLS = 5.0


def publish_all(store: Store, root: Path, outputs: Snapshot | None = None) -> int:
    """Publish all ended trainings in `root` that are not published yet, and then `outputs`.

    A running training publishes its own run. An error ends the publication, and `outputs` are not
    published before all trainings, because they may belong to the run of one of these trainings.

    Returns:
        The number of published runs.
    """
    num_published = 0
    # Two processes that publish at the same time could create two runs for one model.
    with exclusive(root / "sending", "the publication in MLflow", waits=True):
        for folder in sorted(file.parent for file in root.glob(f"*/{ORIGIN}")):
            if (folder / PUBLISHED).exists():
                continue
            snapshot = read_training(folder)
            if snapshot.status != RUNNING:
                publish(connect(store), store, snapshot)
                (folder / PUBLISHED).touch()
                num_published += 1
        if outputs is not None:
            publish(connect(store), store, outputs)
            num_published += 1
    return num_published


def publish_at_end(
    store: Store,
    root: Path,
    seconds: float,
    outputs: Snapshot | None = None,
    thread: Thread | None = None,
) -> None:
    """Publish everything at the end of a stage. Log one warning if MLflow fails or is too slow.

    Args:
        seconds: time limit.
        thread: a thread that may still be publishing. It is joined first, because two threads that
            publish at the same time could create two runs.
    """

    def publish_rest() -> None:
        if thread is not None:
            thread.join()
        publish_all(store, root, outputs)

    try:
        ask(store, publish_rest, seconds)
    except TrackingError as error:
        log.warning(
            "%s; nothing is lost: the next stage or `charlstm sync` will send the rest", error
        )


@contextmanager
def published_while_training(store: Store, folder: Path, seconds: float) -> Iterator[None]:
    """While the training in `folder` runs, publish it from a thread. Publish the rest at the end.

    Training never waits for the thread. If MLflow fails, the thread logs one warning and retries.
    """
    has_ended = Event()
    thread = Thread(target=_publish_repeatedly, args=(store, folder, has_ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        has_ended.set()
        publish_at_end(store, folder.parent, seconds, thread=thread)


def _publish_repeatedly(store: Store, folder: Path, has_ended: Event) -> None:
    client = None
    monitor = None
    has_warned = False
    pause = SECONDS_BEFORE_START
    while not has_ended.wait(pause):
        try:
            if not (folder / ORIGIN).exists():
                continue
            pause = SECONDS_BETWEEN_CALLS
            client = client or connect(store)
            run_id = publish(client, store, read_training(folder))
            # The monitor ends after a failed request, so a new monitor is started.
            if monitor is None or not monitor.is_alive():
                monitor = start_monitor(store, run_id)
        except Exception as error:  # a server, a driver or a disk may raise any exception
            if not has_warned:
                has_warned = True
                log.warning(
                    "%s; training continues, and MLflow is updated later", describe(error, store)
                )


def read_training(folder: Path) -> Snapshot:
    """Return the snapshot of the training in `folder`, which has started.

    A training without `ending.json` is RUNNING while a process holds the lock of the folder.
    Otherwise the training was KILLED.
    """
    origin = json.loads((folder / ORIGIN).read_text())
    rows = read_rows(folder / METRICS)
    ending: dict[str, Any] = {"status": RUNNING}
    if (folder / ENDING).exists():
        ending = json.loads((folder / ENDING).read_text())
    elif holder_of(folder) is None:
        ending = {"status": KILLED, "reason": DISAPPEARED}
        if rows:
            ending["end_ms"] = rows[-1].time_ms

    texts = sorted((folder / EPOCH_TEXTS).glob("epoch-*.txt"))
    return Snapshot(
        TRAINING_TAG,
        origin["training_id"],
        origin["start_ms"],
        rows,
        params=origin["params"],
        tags={**origin["tags"], **ending.get("tags", {})},
        new_tags=origin["tags"],
        measured={**origin["measured"], **ending.get("measured", {})},
        files={f"{EPOCH_TEXTS}/{file.name}": file for file in texts},
        status=ending["status"],
        reason=ending.get("reason", ""),
        end_ms=ending.get("end_ms", 0),
    )


def read_rows(file: Path) -> list[Row]:
    """Return the rows of a metrics file. Ignore lines that a full disk or a kill cut."""
    rows = []
    if file.exists():
        for line in file.read_text().splitlines():
            with suppress(ValueError):
                rows.append(Row(*json.loads(line)))
    return rows
