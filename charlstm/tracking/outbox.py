"""The spool: what is to be sent to one MLflow run, on disk. Whoever tracks only appends to it; a sender reads it.

A spool is a folder. `events.jsonl` has one event a line, in order, each with the time at which it happened. `files/`
has copies of the artifacts. `sent.json` says how far a sender has come (see `delivery.py`). A line is written at once,
and a line that a killed process has left unfinished is cut off when the spool is opened again. Anything may have
happened to the files since: a line that is no event, as `_EVENT` describes them, is read as one of the kind `damaged`.
"""

import errno
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from charlstm.errors import LockedError

log = logging.getLogger(__name__)

EVENTS, SYSTEM, FILES, SENT = "events.jsonl", "system.jsonl", "files", "sent.json"
WRITER_LOCK, SENDER_LOCK = "writer.lock", "sender.lock"

Event = dict[str, Any]

# What databases can hold, of which Python's integers know no bound.
_Time = Annotated[int, Field(ge=0, le=2**53)]
_Step = Annotated[int, Field(ge=-(2**53), le=2**53)]
_Files = Annotated[str, Field(pattern=r"^\d{4,}$")]  # a name below `files/`, and no path that leads elsewhere


class _Any(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")  # a later version may write more

    time_ms: _Time
    if_new: bool = False


class _Start(_Any):
    kind: Literal["start"]
    tag: str
    value: str
    tags: dict[str, str]
    is_open: bool
    is_found_only: bool
    node: str | None


class _Metrics(_Any):
    kind: Literal["metrics"]
    points: list[tuple[str, float, _Step, _Time]]
    only_changed: bool = False


class _Params(_Any):
    kind: Literal["params"]
    values: dict[str, str | bool | int | float]


class _Tags(_Any):
    kind: Literal["tags"]
    values: dict[str, str]


class _Artifacts(_Any):
    kind: Literal["artifacts"]
    files: _Files
    folder: str | None
    is_table: bool = False


class _Corpus(_Any):
    kind: Literal["corpus"]
    source: str
    sha256: str


class _Model(_Any):
    kind: Literal["model"]
    files: _Files
    model_sha256: str
    losses: dict[str, float]
    validation_sha256: str
    tags: dict[str, str]


class _End(_Any):
    kind: Literal["end"]
    status: Literal["FINISHED", "FAILED", "KILLED"]


_EVENT: TypeAdapter[Any] = TypeAdapter(
    Annotated[_Start | _Metrics | _Params | _Tags | _Artifacts | _Corpus | _Model | _End, Field(discriminator="kind")]
)


class Spool:
    """The writing side; one process at a time has a spool open.

    A disk that takes no more ends the tracking with one warning, never the work that is tracked.

    Raises:
        LockedError: another process writes to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = FileLock(folder / WRITER_LOCK, blocking=False)
        self._is_broken = False
        try:
            (folder / FILES).mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            cut_unfinished(folder / EVENTS)
            self._events = os.open(folder / EVENTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except Timeout:
            raise LockedError(f"{folder}: another process is writing to this spool: wait for it, or stop it") from None
        except OSError as error:
            self._give_up(error)

    def start(self, tag: str, value: str, tags: Mapping[str, str], **options: Any) -> None:  # noqa: ANN401
        """Write first of all which run is meant: the newest with that tag; one is made with `tags` if there is none.

        Args:
            options: `is_open`: this is a training, and the run ends with it. `is_found_only`: the run is another
                process's, to be made soon. `node`: send how busy the machine is, under this name (which may be empty).
                `time_ms`: when the run began, if not now.
        """
        defaults = {"is_open": False, "is_found_only": False, "node": None}
        self.append("start", tag=tag, value=value, tags=dict(tags), **{**defaults, **options})

    def append(self, kind: str, **fields: Any) -> None:  # noqa: ANN401  # whatever JSON can hold
        """Write one event; `time_ms` is now, unless given."""
        if self._is_broken:
            return
        event = {"kind": kind, "time_ms": now_ms(), **fields}
        # Of a name that is not UTF-8, Python makes characters that no file of JSON can have: they become `?`.
        line = json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode(errors="replace") + b"\n"
        try:
            written = os.write(self._events, line)
            if written < len(line):  # the disk was full in the middle
                os.ftruncate(self._events, os.fstat(self._events).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._give_up(error)

    def keep(self, *files: Path) -> str | None:
        """Keep files as they are now; the name of a folder in `files/` that has them, or None if one cannot be read.

        They are linked where the system can do that, so they must not be changed in place (`atomic_file` does not).
        """
        try:
            folder = self._new_folder()
            for file in files:
                _link_or_copy(file.resolve(), folder / file.name)
        except OSError as error:
            log.warning("tracking: %s is not sent: %s", ", ".join(map(str, files)), error.strerror)
            return None
        return folder.name

    def keep_text(self, name: str, text: str) -> str | None:
        """The same for a file of that name with this text."""
        try:
            folder = self._new_folder()
            (folder / name).write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            self._give_up(error)
            return None
        return folder.name

    @property
    def is_broken(self) -> bool:
        """Whether nothing is written any more."""
        return self._is_broken

    def close(self) -> None:
        """Let others have it."""
        if not self._is_broken:
            os.close(self._events)
        self._lock.release()

    def _new_folder(self) -> Path:
        files = self.folder / FILES
        folder = files / f"{len(list(files.iterdir())):04d}"
        folder.mkdir()
        return folder

    def _give_up(self, error: OSError) -> None:
        if self._is_broken:
            return
        self._is_broken = True
        reason = f"{self.folder}: {error.strerror}"
        log.warning("tracking ends here, %s; nothing is lost: the files have everything", reason)


class Line(NamedTuple):
    """An event, where the next one begins in its file, and the number of lines that it was made of."""

    event: Event
    end: int
    num_lines: int = 1


def read_lines(file: Path, offset: int = 0) -> Iterator[Line]:
    """The whole lines from `offset` on. One that is no event, as a power failure may leave, has the kind `damaged`."""
    if not file.is_file():
        return
    with file.open("rb") as lines:
        lines.seek(offset)
        for line in lines:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                _EVENT.validate_json(line)
                event = json.loads(line)
            except (ValidationError, ValueError):
                event = {"kind": "damaged", "time_ms": 0}
            yield Line(event, offset)


def last_steps(folder: Path) -> dict[str, int]:
    """The highest step of each metric in the spool: what a resumed training need not write again."""
    highest: dict[str, int] = {}
    for event, _, _ in read_lines(folder / EVENTS):
        if event["kind"] == "metrics":
            for name, _, step, _ in event["points"]:
                highest[name] = max(step, highest.get(name, step))
    return highest


def status_of(folder: Path) -> str:
    """RUNNING if a training began that has not ended, or how it ended; "" for what adds to a run that others end."""
    status = ""
    for line in read_lines(folder / EVENTS):
        event = line.event
        if event["kind"] == "start":
            status = "RUNNING" if event["is_open"] else ""
        elif event["kind"] == "end" and not event.get("if_new"):
            status = event["status"]
    return status


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another disk, or a system without links
        shutil.copyfile(source, target)


def append_line(file: Path, event: Event) -> None:
    """Write one event to a file that is not kept open.

    Raises:
        OSError: the disk takes no more.
    """
    with file.open("ab") as lines:
        lines.write(json.dumps(event, separators=(",", ":")).encode() + b"\n")


def cut_unfinished(file: Path) -> None:
    """Remove an unfinished last line."""
    if not file.exists():
        return
    whole = max((line.end for line in read_lines(file)), default=0)
    if whole < file.stat().st_size:
        os.truncate(file, whole)


def now_ms() -> int:
    """Milliseconds since the epoch, as MLflow counts them."""
    return int(time.time() * 1000)
