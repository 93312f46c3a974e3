"""Sends the events of a spool to an MLflow run: in order, each once, and a repeated one changes nothing.

What is sent is noted in `sent.json` after each call. A sender that dies in between sends the last call's events again,
with the times that the spool has, and MLflow then keeps one of the two.
"""

import contextlib
import itertools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from charlstm.files.atomic import write_text
from charlstm.tracking import client as calls
from charlstm.tracking import registered_model
from charlstm.tracking.client import CORPUS_TAG, Store
from charlstm.tracking.outbox import EVENTS, FILES, SENT, SYSTEM, Event, Line, read_lines

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = logging.getLogger(__name__)

MAX_EVENTS_PER_CALL = 200


@dataclass
class Sent:
    """How far a spool was sent, to which store. `error`: why the last try failed; empty if it did not."""

    store: str
    run_id: str = ""
    is_new: bool = False  # made by this spool
    events: Annotated[int, Field(ge=0)] = 0  # bytes of `events.jsonl`
    system: Annotated[int, Field(ge=0)] = 0  # bytes of `system.jsonl`
    damaged: Annotated[int, Field(ge=0)] = 0  # lines of them that could not be sent, for what they say makes no sense
    error: str = ""


_SENT = TypeAdapter(Sent)


def read_sent(folder: Path) -> Sent | None:
    """What is noted in a spool's folder; None if nothing is."""
    try:
        return _SENT.validate_json((folder / SENT).read_bytes())
    except (OSError, ValidationError):
        return None


def is_complete(folder: Path, store: Store) -> bool:
    """Whether this store has all of the spool."""
    sent = read_sent(folder)
    sizes = [(folder / name).stat().st_size if (folder / name).exists() else 0 for name in (EVENTS, SYSTEM)]
    return sent is not None and sent.store == str(store) and [sent.events, sent.system] == sizes


def _fits(sent: Sent, folder: Path) -> bool:
    """Whether what is noted ends where lines of the files do; what was damaged there is sent again from its start."""
    for name, offset in ((EVENTS, sent.events), (SYSTEM, sent.system)):
        if offset == 0:
            continue
        try:
            with (folder / name).open("rb") as lines:
                lines.seek(offset - 1)
                if lines.read(1) != b"\n":
                    return False
        except OSError:
            return False
    return True


class Delivery:
    """Sends one spool to one store; only one process at a time may do that."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        noted = read_sent(folder)
        is_ours = noted is not None and noted.store == str(store) and _fits(noted, folder)
        self.sent = noted if noted is not None and is_ours else Sent(str(store))
        self._client: MlflowClient | None = None
        start = next((line.event for line in read_lines(folder / EVENTS) if line.event["kind"] == "start"), None)
        self._corpus = start["tags"].get(CORPUS_TAG, "") if start else ""

    def send(self) -> None:
        """Send all whole events that are there.

        Raises:
            Exception: whatever a server, a driver or a disk can raise. Call it again: it goes on where it stopped.
        """
        for file, offset in ((EVENTS, "events"), (SYSTEM, "system")):
            for event, end, num_lines in _merged(read_lines(self.folder / file, getattr(self.sent, offset))):
                if self._is_damaged(event):
                    self.sent.damaged += num_lines
                else:
                    self._send_or_skip(event)
                setattr(self.sent, offset, end)
                self.note()

    def _is_damaged(self, event: Event) -> bool:
        """Whether it makes no sense: it is no event, no run is named before it, or its files are not there."""
        kind = event["kind"]
        if kind == "damaged" or (not self.sent.run_id and kind != "start"):
            return True
        return kind in ("artifacts", "model") and not (self.folder / FILES / event["files"]).is_dir()

    def note(self, error: str = "") -> None:
        """Keep what was sent, and what went wrong. On a full disk it is not kept, and may be sent twice: no harm."""
        self.sent.error = error
        with contextlib.suppress(OSError):
            write_text(self.folder / SENT, _SENT.dump_json(self.sent).decode() + "\n")

    def _send_or_skip(self, event: Event) -> None:
        """What the store refuses for good is skipped with a warning; what comes after may still go through."""
        if self._client is None:
            self._client = calls.connect(self.store)
        try:
            self._send(self._client, event)
        except Exception as error:
            if not calls.is_refusal(error) or not self.sent.run_id:
                raise
            if calls.is_gone(self._client, self.sent.run_id):
                self.sent = Sent(str(self.store))  # the spool has all of it: begin anew
                raise
            if len(event.get("points", ())) > 1:  # one of them may be refused, and not the others
                for point in event["points"]:
                    self._send_or_skip({**event, "points": [point]})
                return
            log.warning("MLflow refuses an event (%s): %s", event["kind"], " ".join(str(error).split())[:300])

    def _send(self, client: "MlflowClient", event: Event) -> None:
        kind, run_id = event["kind"], self.sent.run_id
        if event.get("if_new") and not self.sent.is_new:
            return
        match kind:
            case "start":
                self._find_or_create(client, event)
            case "metrics":
                calls.log_points(client, run_id, event["points"], only_changed=event.get("only_changed", False))
            case "params":
                calls.log_params(client, run_id, event["values"])
            case "tags":
                calls.log_tags(client, run_id, event["values"])
            case "artifacts":
                self._send_artifacts(client, event)
            case "corpus":
                registered_model.log_corpus(client, run_id, source=event["source"], sha256=event["sha256"])
            case "model":
                self._send_model(client, event)
            case "end":
                client.set_terminated(run_id, event["status"], event["time_ms"])

    def _find_or_create(self, client: "MlflowClient", event: Event) -> None:
        tag, tags = event["tag"], event["tags"]
        known = calls.find_experiments(client, self.store)
        run = calls.find_run(client, known.values(), tag, event["value"], is_running=event["is_found_only"])
        if run is None and event["is_found_only"]:
            raise LookupError(f"no running run has the tag {tag} {event['value']} yet")
        if run is None or event["is_open"]:
            _, corpus_id = calls.open_store(self.store, self._corpus) if run is None else ("", run.info.experiment_id)
            if baseline := tags.get("sweep"):
                parent = calls.find_or_create_sweep(client, corpus_id, baseline, event["time_ms"])
                tags = tags | {"mlflow.parentRunId": parent}
        if run is None:
            self.sent.run_id = calls.create_run(client, corpus_id, tags | {tag: event["value"]}, event["time_ms"])
            self.sent.is_new = True
            return
        self.sent.run_id = str(run.info.run_id)
        if event["is_open"]:
            client.update_run(self.sent.run_id, status="RUNNING")
            calls.log_tags(client, self.sent.run_id, tags)

    def _send_artifacts(self, client: "MlflowClient", event: Event) -> None:
        files = sorted((self.folder / FILES / event["files"]).iterdir())
        calls.log_artifacts(client, self.sent.run_id, files, event["folder"])
        if event.get("is_table"):
            for file in files:
                calls.mark_as_table(client, self.sent.run_id, "/".join(filter(None, [event["folder"], file.name])))

    def _send_model(self, client: "MlflowClient", event: Event) -> None:
        """Log and register the model, with its losses and what it was trained and measured on."""
        run_id, sha256, tags = self.sent.run_id, event["model_sha256"], event["tags"]
        corpus = registered_model.log_corpus(client, run_id, source=tags["corpus"], sha256=tags["corpus_sha256"])
        folder = self.folder / FILES / event["files"]
        experiment_id = str(client.get_run(run_id).info.experiment_id)
        model_id = registered_model.log_model(client, experiment_id, run_id, folder, sha256, tags)
        names = [f"{protocol}{registered_model.LOSS_SUFFIX}" for protocol in event["losses"]]
        registered_model.link_metrics(client, run_id, model_id, names, corpus)
        registered_model.register(
            client, model_id, corpus=self._corpus, run_id=run_id, model_sha256=sha256, losses=event["losses"],
            validation_sha256=event["validation_sha256"], tags=tags,
        )  # fmt: skip


def _merged(lines: Iterable[Line]) -> Iterator[Line]:
    """The same events, but those of metrics that follow each other are one."""
    for (is_metrics, _, _), group in itertools.groupby(enumerate(lines), _kind_of_call):
        pairs = [line for _, line in group]
        if is_metrics:
            points = [point for line in pairs for point in line.event["points"]]
            yield Line({**pairs[0].event, "points": points}, pairs[-1].end, len(pairs))
        else:
            yield from pairs


def _kind_of_call(numbered: tuple[int, Line]) -> tuple[bool, bool, int]:
    number, (event, _, _) = numbered
    is_plain = not event.get("if_new") and not event.get("only_changed")
    return event["kind"] == "metrics" and is_plain, is_plain, number // MAX_EVENTS_PER_CALL
