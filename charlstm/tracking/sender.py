"""Sends spools to MLflow: one while its writer works (`follow`), or all that wait (`send_waiting`).

Events go in order, each once, and a repeated one changes nothing. What is sent is noted in the spool's `sent.json`
after each call. A sender that dies in between sends the last call's events again, with the times that the spool has,
and MLflow then keeps one of the two.

A server that is down, slow or wrong costs nothing but time here, and is tried again. The status of a run is made true:
a training whose process is gone without a word is ended as KILLED.
"""

import contextlib
import hashlib
import itertools
import logging
import math
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from charlstm.errors import LockedError, TrackingError
from charlstm.files.atomic import write_text
from charlstm.tracking import client as calls
from charlstm.tracking import outbox, registered_model
from charlstm.tracking.client import CORPUS_TAG, SPOOL_TAG, SWEEP_TAG, Store
from charlstm.tracking.outbox import EVENTS, FILES, Event, Spool, read_events, start_of, status_of
from charlstm.tracking.system_metrics import PREFIX, Samples

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

SENT = "sent.json"
MAX_EVENTS_PER_CALL = 200
SECONDS_BETWEEN_LOOKS = 1.0
MAX_SECONDS_BETWEEN_TRIES = 30.0
LAST_TRIES, SECONDS_BETWEEN_LAST_TRIES = 3, 1.0
SECONDS_FOR_TURN = 60.0
SECONDS_KEPT = 7 * 24 * 3600  # of a training that may be resumed
FINISHED = "FINISHED"  # MLflow's word
TURN, REMOVED, DAMAGED = "sender.lock", ".removed-", "damaged"  # beside the spools
GONE = "the process was gone without a word: killed, aborted, out of memory, or the machine went down"


def follow(
    folder: Path, store: Store, is_writer_gone: Callable[[float], bool], seconds_between_samples: float = math.inf
) -> bool:
    """Send the spool's events as they come, until its writer is gone; whether all of them were sent.

    First comes what others have left: a run that this spool adds to may be among it.

    Args:
        is_writer_gone: waits at most so many seconds for the writer to close the spool or to die.
    """
    sender, samples = SpoolSender(folder, store), Samples(folder, seconds_between_samples)
    pause, tries_left, has_sent_others, has_warned = 0.0, LAST_TRIES, False, False
    while True:
        is_gone = is_writer_gone(pause)
        if not has_sent_others:
            has_sent_others = not any(send_waiting(folder.parent, store, but=folder))
        if not is_gone:
            samples.take_if_due()
        error = sender.finish() if is_gone else None
        if error is None:
            error = sender.send()
        if error and not has_warned and folder.exists():
            log.warning("%s; nothing is lost: what is missing is sent later, or by `charlstm sync`", error)
            has_warned = True
        pause = (
            min(max(pause, SECONDS_BETWEEN_LOOKS) * 2, MAX_SECONDS_BETWEEN_TRIES) if error else SECONDS_BETWEEN_LOOKS
        )
        if is_gone:
            tries_left -= 1
            if not error or tries_left == 0 or not folder.exists():
                return not error
            time.sleep(SECONDS_BETWEEN_LAST_TRIES)  # nobody is there to wait for


def send_waiting(root: Path, store: Store, but: Path | None = None) -> list[str]:
    """Send all spools that nobody writes to, oldest first; end the runs of processes that are gone.

    Of each what went wrong, in one line; empty if it was sent. Whatever is wrong with one of them, the others are sent.
    """
    for folder in root.glob(f"{REMOVED}*"):  # what a process that was killed has not removed to its end
        shutil.rmtree(folder, ignore_errors=True)
    folders = sorted((folder for folder in root.iterdir() if _is_spool(folder) and folder != but), key=_last_written)
    errors = [SpoolSender(folder, store).finish() for folder in folders]
    return [error for error in errors if error is not None]


@dataclass
class Sent:
    """How far a spool was sent, to which store. `error`: why the last try failed; empty if it did not."""

    store: str
    run_id: str = ""
    is_new: bool = False  # made by this spool
    offset: int = 0  # of the first event that is still to be sent, in bytes
    num_damaged: int = 0
    error: str = ""


_SENT = TypeAdapter(Sent)


def read_sent(folder: Path) -> Sent | None:
    """The note in a spool's folder of what was sent; None if there is none."""
    try:
        return _SENT.validate_json((folder / SENT).read_bytes())
    except (OSError, ValidationError):
        return None


class SpoolSender:
    """Sends one spool to one store. Several may do so at once: they take turns, and each goes on where another was."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.sent = Sent(store.identity)
        self._client: MlflowClient | None = None
        self._is_deleted = False  # by somebody, so that it takes nothing any more
        self._met: tuple[str, dict[str, int]] = ("", {})  # a run, and the last step of each metric that it had then

    def send(self) -> str:
        """Send all whole events that are there; what went wrong, in one line. Call it again: it goes on there."""
        try:
            with _turn(self.folder, self.store):
                return self._send_new() if _is_spool(self.folder) else ""
        except (TrackingError, OSError) as error:  # no turn
            return calls.describe(error, self.store)

    def finish(self) -> str | None:
        """Send and remove a spool that nobody writes to. If it says nothing of an end, it was KILLED.

        None if somebody writes to it, if another process has just removed it, or if it is kept and all was sent before.
        """
        if outbox.is_written(self.folder):  # no turn is needed to see that
            return None
        try:
            with _turn(self.folder, self.store):
                if not _is_spool(self.folder) or not _end_if_dead(self.folder):
                    return None
                before = read_sent(self.folder)
                error, start = self._send_new(), start_of(self.folder)
                is_old = time.time() - _last_written(self.folder) > SECONDS_KEPT
                # A training that did not finish may be resumed, and then its spool knows what was sent.
                is_resumable = not is_old and status_of(self.folder) not in ("", FINISHED)
                # The run that another process was to make never came.
                is_of_nothing = is_old and start is not None and start.is_found_only and not self.sent.run_id
                if is_resumable and not error and self.sent == before:
                    return None
                if is_resumable or (error and not is_of_nothing):
                    return error
                if self.sent.num_damaged:
                    return self._set_aside()
                # Under another name first: what is half removed, another process would take for a spool without files.
                removed = self.folder.with_name(f"{REMOVED}{self.folder.name}-{secrets.token_hex(4)}")
                self.folder.rename(removed)
                shutil.rmtree(removed, ignore_errors=True)
                return ""
        except (TrackingError, OSError) as error:
            return calls.describe(error, self.store)

    def _set_aside(self) -> str:
        """Keep a spool that could not be sent to its end where nobody sends from; what to say of it, in one line."""
        kept = self.folder.parent / DAMAGED / f"{self.folder.name}-{outbox.now_ms()}"
        kept.parent.mkdir(exist_ok=True)
        self.folder.rename(kept)
        reason = f"{self.sent.num_damaged} damaged lines were not sent; they are kept in {kept}"
        log.warning("tracking: %s", reason)
        return reason

    def _send_new(self) -> str:
        """Send, in this process's turn."""
        noted, start = read_sent(self.folder), start_of(self.folder)
        # On a full disk nothing can be noted, and what this process has sent counts.
        is_valid = noted and noted.store == self.store.identity and _ends_a_line(self.folder / EVENTS, noted.offset)
        if noted and is_valid and noted.offset >= self.sent.offset:
            self.sent = noted
        self._corpus = start.tags.get(CORPUS_TAG, "") if start else ""
        try:
            for event, end in _merged(read_events(self.folder, self.sent.offset)):
                if self._makes_sense(event):
                    self._send_or_skip(event)
                else:
                    self.sent.num_damaged += 1
                self.sent.offset = end
                self._note()
        except Exception as error:  # whatever a server, a driver or a disk can raise
            message = calls.describe(error, self.store)
            self._note(message)
            return message
        if self.sent.error:
            self._note()
        return ""

    def _makes_sense(self, event: Event | None) -> bool:
        """Whether it is an event, a run is named before it, and its files are there."""
        if event is None or not (self.sent.run_id or isinstance(event, outbox.Start)):
            return False
        if isinstance(event, outbox.Artifacts | outbox.Model):
            return (self.folder / FILES / event.files).is_dir()
        return True

    def _note(self, error: str = "") -> None:
        """Keep what was sent, and what went wrong. On a full disk it is not kept, and may be sent twice: no harm."""
        self.sent.error = error
        with contextlib.suppress(OSError):
            write_text(self.folder / SENT, _SENT.dump_json(self.sent).decode() + "\n")

    def _send_or_skip(self, event: Event) -> None:
        """Send an event, or skip one that the store refuses for good, with a warning: others may still go through."""
        if self._is_deleted:
            return
        if self._client is None:
            self._client = calls.connect(self.store)
        try:
            if self.sent.is_new or not event.if_new:
                self._send_event(self._client, event)
        except Exception as error:
            if not calls.is_refusal(error) or not self.sent.run_id:
                raise
            if calls.is_gone(self._client, self.sent.run_id):
                self.sent = Sent(self.store.identity)  # the spool has all of it: begin anew
                raise
            if calls.is_deleted(self._client, self.sent.run_id):
                log.warning("MLflow: the run %s was deleted, and gets nothing more", self.sent.run_id)
                self._is_deleted = True
                return
            if isinstance(event, outbox.Metrics) and len(event.points) > 1:  # one may be refused, and not the others
                for point in event.points:
                    self._send_or_skip(event.model_copy(update={"points": [point]}))
                return
            log.warning("MLflow refuses an event (%s): %s", type(event).__name__, " ".join(str(error).split())[:300])

    def _send_event(self, client: "MlflowClient", event: Event) -> None:
        run_id = self.sent.run_id
        match event:
            case outbox.Start():
                self._find_or_create(client, event)
            case outbox.Metrics():
                known = self._known_steps(client)
                new = [point for point in event.points if point[2] > known.get(point[0], -1)]
                calls.log_points(client, run_id, new, only_changed=event.only_changed)
            case outbox.Params():
                calls.log_params(client, run_id, event.values)
            case outbox.Tags():
                calls.log_tags(client, run_id, event.values)
            case outbox.Artifacts():
                files = sorted((self.folder / FILES / event.files).iterdir())
                calls.log_artifacts(client, run_id, files, event.folder, is_table=event.is_table)
            case outbox.Model():
                folder = self.folder / FILES / event.files
                registered_model.log_and_register(client, run_id, folder, self._corpus, event)
            case outbox.End():
                if event.status != FINISHED and client.get_run(run_id).info.status == FINISHED:
                    return  # another machine has trained to the end meanwhile
                if event.reason:
                    calls.log_tags(client, run_id, {"ended": event.reason})
                client.set_terminated(run_id, event.status, event.time_ms)

    def _known_steps(self, client: "MlflowClient") -> dict[str, int]:
        """The last step of each metric of a training's run when this sender met it.

        Another sender, of this machine or of one that has trained on, may have sent more than this one knows of.
        """
        run_id, known = self._met
        if run_id != self.sent.run_id:
            start, run = start_of(self.folder), client.get_run(self.sent.run_id)
            steps = calls.last_steps_of(run) if start and start.is_open else {}
            known = {name: step for name, step in steps.items() if not name.startswith(PREFIX)}
            self._met = self.sent.run_id, known
        return known

    def _find_or_create(self, client: "MlflowClient", start: outbox.Start) -> None:
        run = calls.find_run(client, self.store, start.tag, start.value, is_running=start.is_found_only)
        if run is None and start.is_found_only and not outbox.is_written(self.folder):  # it may have ended meanwhile
            ended = calls.find_run(client, self.store, start.tag, start.value)
            run = ended if ended is not None and (ended.info.end_time or 0) >= start.time_ms else None
        if run is not None:
            self.sent.run_id = str(run.info.run_id)
            self.sent.is_new = run.data.tags.get(SPOOL_TAG) == self.folder.name  # made, but the answer was lost
            if start.is_open:
                if run.info.status != FINISHED:
                    client.update_run(self.sent.run_id, status="RUNNING")
                calls.log_tags(client, self.sent.run_id, self._with_parent(client, str(run.info.experiment_id), start))
            return
        if start.is_found_only:
            raise LookupError(f"no running run has the tag {start.tag} {start.value} yet")
        if start.tag == registered_model.MODEL_TAG and self._is_trained_by_another(start.value):
            raise LookupError(f"the run of the model {start.value} is not sent yet")
        experiment_id = calls.find_or_create_experiment(client, self.store, self._corpus)
        tags = self._with_parent(client, experiment_id, start) | {start.tag: start.value, SPOOL_TAG: self.folder.name}
        self.sent.run_id, self.sent.is_new = calls.create_run(client, experiment_id, tags, start.time_ms), True

    def _is_trained_by_another(self, model: str) -> bool:
        """Whether a spool that waits has the training of a model: its run is to be found, and no second one made."""
        others = (other for other in self.folder.parent.iterdir() if other != self.folder and _is_spool(other))
        trainings = (other for other in others if (start := start_of(other)) and start.is_open)
        made = f'"{registered_model.MODEL_TAG}":"{model}"'.encode()  # not what it began from
        return any(made in (training / EVENTS).read_bytes() for training in trainings)

    def _with_parent(self, client: "MlflowClient", experiment_id: str, start: outbox.Start) -> dict[str, str]:
        """The run's tags, and the run above it in a sweep. A resumed training may belong to another one than before."""
        if not (baseline := start.tags.get(SWEEP_TAG)):
            return start.tags
        parent = calls.find_or_create_sweep(client, experiment_id, baseline, start.time_ms)
        return start.tags | {"mlflow.parentRunId": parent}


@contextlib.contextmanager
def _turn(folder: Path, store: Store) -> Iterator[None]:
    """Senders that would be in each other's way take turns.

    SQLite has one writer at a time, and none is to wait in the database until it gives up. On a server, two spools of
    one run (evaluate ran twice) would write the same artifacts at once: one sender would find the file of the other
    where it looks for its own, say so, and send the older one again after the newer.
    """
    start = None if store.uri.startswith("sqlite") else start_of(folder)
    run = hashlib.sha256(start.value.encode()).hexdigest()[0] if start else ""  # 16 files for all runs are enough
    try:
        with FileLock(folder.parent / f"{run}{TURN}", timeout=SECONDS_FOR_TURN):
            yield
    except Timeout:
        raise TrackingError(f"another process of this checkout has been sending for {SECONDS_FOR_TURN:g} s") from None


def _merged(events: Iterable[tuple[Any, int]]) -> Iterator[tuple[Any, int]]:
    """The events and their ends, with plain metrics that follow each other merged into one."""
    for is_plain, group in itertools.groupby(events, lambda pair: _is_plain_metrics(pair[0])):
        if not is_plain:
            yield from group
        while is_plain and (batch := list(itertools.islice(group, MAX_EVENTS_PER_CALL))):
            points = [point for event, _ in batch for point in event.points]
            yield batch[0][0].model_copy(update={"points": points}), batch[-1][1]


def _ends_a_line(file: Path, offset: int) -> bool:
    """Whether a line of the file ends there: after a power failure, a note may be newer than the events."""
    if offset <= 0:
        return offset == 0
    with file.open("rb") as lines:
        lines.seek(offset - 1)
        return lines.read(1) == b"\n"


def _is_plain_metrics(event: Event | None) -> bool:
    return isinstance(event, outbox.Metrics) and not (event.if_new or event.only_changed)


def _is_spool(folder: Path) -> bool:
    """Whether `folder` has what is to be sent. A name with a dot is that of one that is written or removed."""
    return not folder.name.startswith(".") and (folder / EVENTS).is_file()


def _end_if_dead(folder: Path) -> bool:
    """End the run as KILLED if its training says nothing of an end; False if it is alive."""
    last_written_ms = int(_last_written(folder) * 1000)
    try:
        spool = Spool(folder)
    except LockedError:
        return False
    if status_of(folder) == "RUNNING":
        spool.append("end", status="KILLED", reason=GONE, time_ms=last_written_ms)
    spool.close()
    return True


def _last_written(folder: Path) -> float:
    """When an event was written last, in seconds since the epoch; 0 if the spool is gone."""
    try:
        return (folder / EVENTS).stat().st_mtime
    except OSError:
        return 0.0
