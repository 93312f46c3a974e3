"""Feeds MLflow from spools: one spool while its writer works (`follow`), or all that wait (`send_waiting`).

A server that is down, slow or wrong costs nothing but time here, and is tried again. The status of a run is made true:
a training whose process is gone without a word is ended as KILLED.
"""

import contextlib
import hashlib
import logging
import secrets
import shutil
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from charlstm.errors import LockedError, TrackingError
from charlstm.files.urls import without_credentials
from charlstm.tracking.client import Store, reason_of
from charlstm.tracking.delivery import Delivery, is_complete, read_sent
from charlstm.tracking.outbox import EVENTS, SENDER_LOCK, SYSTEM, Spool, append_line, now_ms, read_lines, status_of

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_SAMPLES = 10.0  # of how busy the machine is, as MLflow has it
MAX_SECONDS_BETWEEN_TRIES = 30.0
LAST_TRIES, SECONDS_BETWEEN_LAST_TRIES = 3, 1.0
SECONDS_FOR_TURN = 60.0
SECONDS_KEPT = 7 * 24 * 3600  # of a training that may be resumed
REMOVED, DAMAGED = ".removed-", "damaged"  # beside the spools
GONE = "the process was gone without a word: killed, aborted, out of memory, or the machine went down"


class Outcome(NamedTuple):
    """What became of a spool; `error` is empty if all of it was sent that makes sense, but for `num_damaged` lines.

    A spool with damaged lines is kept in `folder` when it is done with: nobody sends from there.
    """

    folder: Path
    error: str
    num_damaged: int = 0


def follow(
    folder: Path,
    store: Store,
    is_writer_gone: Callable[[float], bool],
    seconds_between_samples: float = SECONDS_BETWEEN_SAMPLES,
) -> bool:
    """Send the spool's events as they come, until its writer is gone; whether all of them were sent.

    First comes what others have left: a run that this spool adds to may be among it.

    Args:
        is_writer_gone: waits at most so many seconds for the writer to close the spool or to die.
    """
    try:
        with FileLock(folder / SENDER_LOCK, blocking=False):
            return _follow(Delivery(folder, store), _Samples(folder, seconds_between_samples), is_writer_gone)
    except Timeout:
        return False


def _follow(delivery: Delivery, samples: "_Samples", is_writer_gone: Callable[[float], bool]) -> bool:
    folder, store = delivery.folder, delivery.store
    pause, tries_left, has_sent_others, has_warned = 0.0, LAST_TRIES, False, False
    while True:
        if is_gone := is_writer_gone(pause):
            _end_if_dead(folder)
        if not has_sent_others:
            has_sent_others = not any(one.error for one in send_waiting(folder.parent, store, but=folder))
        samples.take()
        error = _try(delivery)
        if not error:
            pause = SECONDS_BETWEEN_LOOKS
            if is_gone:
                _remove_if_done(folder, store)
                return True
            continue
        if not has_warned:
            log.warning("%s; nothing is lost: what is missing is sent later, or by `charlstm sync`", error)
            has_warned = True
        pause = min(max(pause, SECONDS_BETWEEN_LOOKS) * 2, MAX_SECONDS_BETWEEN_TRIES)
        if is_gone:
            tries_left -= 1
            if tries_left == 0:
                return False
            pause = SECONDS_BETWEEN_LAST_TRIES


class _Samples:
    """Of the machine's load, while a training runs; without them if it cannot be asked."""

    def __init__(self, folder: Path, seconds_between: float) -> None:
        self._folder, self._seconds_between = folder, seconds_between
        self._sampler: SystemSampler | None = None
        self._is_wanted = True

    def take(self) -> None:
        """Write a sample if one is due."""
        if not self._is_wanted:
            return
        try:
            if self._sampler is None:
                events = (event for event, _, _ in read_lines(self._folder / EVENTS))
                start = next((event for event in events if event["kind"] == "start"), None)
                self._is_wanted = start is None or start["node"] is not None
                if start is None or not self._is_wanted:
                    return
                self._sampler = SystemSampler(self._folder, start["node"], self._seconds_between)
            self._sampler.sample_if_due()
        except Exception as error:  # a driver or a disk may fail in any way, and training goes on
            log.warning("no more system metrics: %s", error)
            self._is_wanted = False


def send_waiting(root: Path, store: Store, but: Path | None = None) -> list[Outcome]:
    """Send all spools that nobody writes to or sends, oldest first; end the runs of processes that are gone.

    Whatever is wrong with one of them, the others are sent.
    """
    _remove_removed(root)
    outcomes = []
    for folder in sorted((one for one in root.iterdir() if _is_spool(one) and one != but), key=_age):
        try:
            with FileLock(folder / SENDER_LOCK, blocking=False):
                if not _is_spool(folder):
                    _remove_lock(folder)
                elif _end_if_dead(folder) and (outcome := _send_whole(folder, store)):
                    outcomes.append(outcome)
        except (Timeout, FileNotFoundError):  # another process sends it, or has just removed it
            continue
        except OSError as error:
            outcomes.append(Outcome(folder, f"{folder}: {error.strerror or error}"))
    return outcomes


def _send_whole(folder: Path, store: Store) -> Outcome | None:
    """Send what nobody writes to; None if nothing was ever written there."""
    if not (folder / EVENTS).stat().st_size:
        _remove(folder)
        return None
    if not is_complete(folder, store) and (error := _try(Delivery(folder, store))):
        return Outcome(folder, error)
    sent = read_sent(folder)
    return Outcome(_remove_if_done(folder, store), "", sent.damaged if sent else 0)


def _is_spool(folder: Path) -> bool:
    """Whether `folder` has what is to be sent."""
    return not folder.name.startswith(REMOVED) and (folder / EVENTS).is_file()


def _try(delivery: Delivery) -> str:
    """Send; what went wrong, in one line."""
    try:
        with _turn(delivery.folder, delivery.store):
            delivery.send()
    except Exception as error:  # whatever a server, a driver or a disk can raise
        message = describe(error, delivery.store)
        delivery.note(message)
        return message
    if delivery.sent.error:
        delivery.note()
    return ""


def describe(error: Exception, store: Store) -> str:
    """One line without what a URI may hold of secrets."""
    where = "MLflow" if isinstance(error, TrackingError) else f"MLflow at {without_credentials(store.uri)}"
    message = f"{where}: {reason_of(error, store)}"
    return textwrap.shorten(message, 300, placeholder=" ...")


@contextlib.contextmanager
def _turn(folder: Path, store: Store) -> Iterator[None]:
    """Senders that would be in each other's way take turns.

    SQLite has one writer at a time, and none is to wait in the database until it gives up. On a server, two spools of
    one run (evaluate ran twice) would write the same artifacts at once: one sender would find the file of the other
    where it looks for its own, say so, and send the older one again after the newer.
    """
    name = "database.lock"
    if not store.uri.startswith("sqlite"):
        start = next((line.event for line in read_lines(folder / EVENTS) if line.event["kind"] == "start"), None)
        value = start["value"] if start else ""
        name = f"runs-{hashlib.sha256(value.encode()).hexdigest()[0]}.lock"  # 16 files for all runs are enough
    try:
        with FileLock(folder.parent / name, timeout=SECONDS_FOR_TURN):
            yield
    except Timeout:
        raise TrackingError(f"another process of this checkout has been sending for {SECONDS_FOR_TURN:g} s") from None


def _end_if_dead(folder: Path) -> bool:
    """End the run as KILLED if its training says nothing of an end; False if it is alive."""
    last_written = int((folder / EVENTS).stat().st_mtime * 1000) if (folder / EVENTS).exists() else 0
    try:
        spool = Spool(folder)
    except LockedError:
        return False
    if status_of(folder) == "RUNNING":
        spool.append("tags", values={"ended": GONE})
        spool.append("end", status="KILLED", time_ms=last_written)
    spool.close()
    return True


def _remove_if_done(folder: Path, store: Store) -> Path:
    """Where the spool is now, if anywhere.

    A training that did not finish may be resumed, and then its spool knows what was sent. A spool with damaged lines is
    set aside with all that it has, for whoever wants to know what it was.
    """
    sent = read_sent(folder)
    is_over = status_of(folder) in ("", "FINISHED") or time.time() - _age(folder) > SECONDS_KEPT
    if sent is None or not is_complete(folder, store) or not is_over:
        return folder
    if not sent.damaged:
        _remove(folder)
        return folder
    kept = folder.parent / DAMAGED / f"{folder.name}-{secrets.token_hex(4)}"
    kept.parent.mkdir(exist_ok=True)
    folder.rename(kept)
    log.warning("tracking: %d damaged lines were not sent; they are kept in %s", sent.damaged, kept)
    return kept


def _remove(folder: Path) -> None:
    """Under another name first: what is half removed, another process would take for a spool without its files."""
    removed = folder.with_name(f"{REMOVED}{folder.name}-{secrets.token_hex(4)}")
    folder.rename(removed)
    shutil.rmtree(removed, ignore_errors=True)


def _remove_lock(folder: Path) -> None:
    """Of a spool that another process has just removed: `FileLock` makes the folder anew, for nothing but the lock."""
    with contextlib.suppress(OSError):  # there is more in it: a writer has begun there
        (folder / SENDER_LOCK).unlink()
        folder.rmdir()


def _remove_removed(root: Path) -> None:
    """What a process that was killed has not removed to its end."""
    for folder in root.glob(f"{REMOVED}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _age(folder: Path) -> float:
    """When it was written last, in seconds since the epoch; 0 if it is gone."""
    try:
        return (folder / EVENTS).stat().st_mtime
    except OSError:
        return 0.0


# How busy a machine is while it trains: processor, memory, disk, network and GPUs, by MLflow's own collectors.
#
# MLflow's monitor around them ends for good when a server fails once. Here the samples go to the spool.


class SystemSampler:
    """Writes a sample to a spool's `system.jsonl` when one is due, as metrics `system/...`, numbered from 0.

    Args:
        node: comes before the names of metrics where there are several machines; empty for one.
    """

    def __init__(self, spool: Path, node: str, seconds_between: float) -> None:
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self._monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with contextlib.suppress(ImportError, RuntimeError):  # no GPU, or no library that can ask it
            self._monitors.append(GPUMonitor())
        self._file, self._prefix = spool / SYSTEM, f"system/{node}/" if node else "system/"
        self._seconds_between = seconds_between
        self._number = sum(1 for _ in read_lines(self._file))
        self._last_at = time.monotonic()
        for monitor in self._monitors:  # the first use of the processor is measured from here
            monitor.collect_metrics()
            monitor.clear_metrics()

    def sample_if_due(self) -> None:
        """Write what was used since the last sample.

        Raises:
            OSError: the disk takes no more.
        """
        now = time.monotonic()
        if now - self._last_at < self._seconds_between:
            return
        self._last_at, time_ms = now, now_ms()
        points = []
        for monitor in self._monitors:
            monitor.collect_metrics()
            found = monitor.aggregate_metrics().items()
            points += [[f"{self._prefix}{name}", float(value), self._number, time_ms] for name, value in found]
            monitor.clear_metrics()
        append_line(self._file, {"kind": "metrics", "time_ms": time_ms, "points": points})
        self._number += 1
