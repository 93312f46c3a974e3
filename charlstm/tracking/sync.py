"""Publishes what MLflow lacks: trainings that have ended, and the outputs of a checkout."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from charlstm.errors import TrackingError
from charlstm.files.lock import exclusive, holder_of
from charlstm.tracking.client import Store, ask, connect, describe, start_monitor
from charlstm.tracking.publish import publish
from charlstm.tracking.snapshot import Snapshot
from charlstm.tracking.training_files import ENDING, ORIGIN, PUBLISHED, read_training

log = logging.getLogger(__name__)

SECONDS_BEFORE_START, SECONDS_BETWEEN_CALLS = 0.1, 5.0
TURN = "sending to MLflow"  # two senders at once could create two runs of one model, so the second waits


def publish_all(store: Store, root: Path, outputs: Snapshot | None = None) -> list[str]:
    """Publish the trainings in `root` that have ended, then `outputs`. Return each one's error, empty for success.

    A training that a living process holds is left to that process. If a training fails, the outputs are not tried,
    because their run may be that training's.
    """
    errors = []
    with exclusive(root / "sending", TURN, lambda: True):
        for folder in sorted(file.parent for file in root.glob(f"*/{ORIGIN}")):
            if (folder / PUBLISHED).exists() or (
                holder_of(folder) is not None and not (folder / ENDING).exists()
            ):
                continue
            try:
                snapshot = read_training(folder)
            except ValueError:
                log.warning(
                    "%s: a file of its run is damaged: delete the folder; `evaluate` makes a run",
                    folder,
                )
                continue
            if snapshot is not None:
                errors.append(_error_of(store, snapshot))
                if not errors[-1]:
                    (folder / PUBLISHED).touch()
        if outputs is not None:
            errors.append(max(errors, default="") or _error_of(store, outputs))
    return errors


def publish_at_end(
    store: Store,
    root: Path,
    seconds: float,
    outputs: Snapshot | None = None,
    thread: Thread | None = None,
) -> None:
    """Publish everything at the end of a stage. Log one warning if MLflow fails, or says nothing for `seconds`.

    `thread` may still be publishing. It is waited for, since two at once could create two runs.
    """

    def publish_rest() -> None:
        if thread is not None:
            thread.join()
        if error := max(publish_all(store, root, outputs), default=""):
            raise TrackingError(error)

    try:
        ask(store, publish_rest, seconds)
    except TrackingError as error:
        log.warning("%s; nothing is lost: the next stage sends the rest, or `charlstm sync`", error)


def _error_of(store: Store, snapshot: Snapshot) -> str:
    try:
        publish(connect(store), store, snapshot)
    except Exception as error:  # whatever a server, a driver or a disk can raise
        return describe(error, store)
    return ""


@contextmanager
def published_while_training(store: Store, folder: Path, seconds: float) -> Iterator[None]:
    """Publish the training in `folder` from a thread while in the context. On leaving, call `publish_at_end`.

    Training never waits for the thread. If MLflow fails, the thread logs one warning and tries again.
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
    client, monitor, has_warned = None, None, False
    pause = SECONDS_BEFORE_START
    while not has_ended.wait(pause):
        try:
            if (snapshot := read_training(folder)) is None:
                continue
            pause = SECONDS_BETWEEN_CALLS
            client = client or connect(store)
            run_id = publish(client, store, snapshot)
            if (
                monitor is None or not monitor._process.is_alive()
            ):  # its thread ends for good after one failed call
                monitor = start_monitor(store, run_id)
        except Exception as error:  # whatever a server, a driver or a disk can raise
            if not has_warned:
                log.warning(
                    "%s; training goes on, and the rest is sent later", describe(error, store)
                )
            has_warned = True
    if monitor is not None:
        monitor._shutdown_event.set()  # `finish()` would wait for the store
