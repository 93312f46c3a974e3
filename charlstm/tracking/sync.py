"""The publication of trainings and stage outputs that are not in MLflow yet."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from charlstm.errors import TrackingError
from charlstm.files.lock import exclusive
from charlstm.tracking.client import Store, ask, connect, describe, start_monitor
from charlstm.tracking.publish import RUNNING, Snapshot, publish
from charlstm.tracking.training_files import ORIGIN, PUBLISHED, read_training

log = logging.getLogger(__name__)

SECONDS_BEFORE_START = 0.1
SECONDS_BETWEEN_CALLS = 5.0


def publish_all(store: Store, root: Path, outputs: Snapshot | None = None) -> list[str]:
    """Publish all ended trainings in `root` that are not published yet, and then `outputs`.

    A running training publishes its own run. If a training cannot be published, `outputs` are not
    published either, because they may belong to the run of that training.

    Returns:
        One string for each run: an error message, or an empty string after success.
    """
    errors = []
    # Two processes that publish at the same time could create two runs for one model.
    with exclusive(root / "sending", "the publication in MLflow", waits=True):
        for folder in sorted(file.parent for file in root.glob(f"*/{ORIGIN}")):
            if (folder / PUBLISHED).exists():
                continue
            try:
                snapshot = read_training(folder)
            except (ValueError, TypeError):
                log.warning(
                    "%s: the record of this training is damaged; delete the folder: "
                    "the stage `evaluate` will create the MLflow run",
                    folder,
                )
                continue
            if snapshot is not None and snapshot.status != RUNNING:
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
    """Publish everything at the end of a stage. Log one warning if MLflow fails or is too slow.

    Args:
        seconds: time limit.
        thread: a thread that may still be publishing. It is joined first, because two threads that
            publish at the same time could create two runs.
    """

    def publish_rest() -> None:
        if thread is not None:
            thread.join()
        if error := max(publish_all(store, root, outputs), default=""):
            raise TrackingError(error)

    try:
        ask(store, publish_rest, seconds)
    except TrackingError as error:
        log.warning(
            "%s; nothing is lost: the next stage or `charlstm sync` will send the rest", error
        )


def _error_of(store: Store, snapshot: Snapshot) -> str:
    try:
        publish(connect(store), store, snapshot)
    except Exception as error:  # a server, a driver or a disk may raise any exception
        return describe(error, store)
    return ""


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
            if (snapshot := read_training(folder)) is None:
                continue
            pause = SECONDS_BETWEEN_CALLS
            client = client or connect(store)
            run_id = publish(client, store, snapshot)
            # The monitor ends after a failed request, so a new monitor is started.
            if monitor is None or not monitor.is_alive():
                monitor = start_monitor(store, run_id)
        except Exception as error:  # a server, a driver or a disk may raise any exception
            if not has_warned:
                has_warned = True
                log.warning(
                    "%s; training continues, and MLflow is updated later", describe(error, store)
                )
