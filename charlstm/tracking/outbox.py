"""The outbox: what is to be sent to MLflow, on disk, a spool for each run. Whoever tracks only appends; a sender reads.

A spool is a folder. `events.jsonl` has one event a line, in order, each with the time at which it happened. `files/`
has copies of the artifacts. `sent.json` says how far a sender has come (see `sender.py`). A line is written at once,
and a line that a killed process has left unfinished is cut off when the spool is opened again. After a power failure a
line may be none of the events below: it is read as None.
"""

import errno
import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol

from filelock import FileLock, Timeout
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from charlstm.errors import LockedError

log = logging.getLogger(__name__)

EVENTS, FILES, WRITER_LOCK = "events.jsonl", "files", "writer.lock"
SECONDS_FOR_A_LOOK = 5.0  # that a sender may hold the lock to see whether the writer is gone


_Files = Annotated[str, Field(pattern=r"^\d{4,}$")]  # a name below `files/`, and no path that leads elsewhere


class Event(BaseModel):
    """The fields of all events. `if_new`: for a run that was made by this spool, and for no other."""

    time_ms: int
    if_new: bool = False


class Start(Event):
    """Which run is meant: the newest with that tag. One is made with `tags` if there is none.

    `is_open`: this is a training, and the run ends with it. `is_found_only`: the run is another process's, to be made
    soon. `node`: send how busy the machine is, under this name (which may be empty).
    """

    kind: Literal["start"]
    tag: str
    value: str
    tags: dict[str, str]
    is_open: bool = False
    is_found_only: bool = False
    node: str | None = None


class Metrics(Event):
    """Points: name, value, step, milliseconds. `only_changed`: but for those that are the run's latest already."""

    kind: Literal["metrics"]
    points: list[tuple[str, float, int, int]]
    only_changed: bool = False


class Params(Event):
    """Parameters, by dotted name."""

    kind: Literal["params"]
    values: dict[str, str | bool | int | float]


class Tags(Event):
    """Tags, which replace older values."""

    kind: Literal["tags"]
    values: dict[str, str]


class Artifacts(Event):
    """Files, by their folder in `files/`, for a folder of the run. `is_table`: the UI lays them beside others."""

    kind: Literal["artifacts"]
    files: _Files
    folder: str | None
    is_table: bool = False


class Model(Event):
    """A model folder to log and register. Its `losses` are nats/char by protocol, on a text with that SHA-256."""

    kind: Literal["model"]
    files: _Files
    model_sha256: str
    losses: dict[str, float]
    validation_sha256: str
    tags: dict[str, str]


class End(Event):
    """The end of the run, and why it came; a run that is FINISHED stays so."""

    kind: Literal["end"]
    status: Literal["FINISHED", "FAILED", "KILLED"]
    reason: str = ""


_EVENT: TypeAdapter[Any] = TypeAdapter(
    Annotated[Start | Metrics | Params | Tags | Artifacts | Model | End, Field(discriminator="kind")]
)


class BackgroundSender(Protocol):
    """A sender of a spool that is still being written."""

    def close(self) -> None:
        """The spool is complete: send the rest, within reason."""


class Outbox(NamedTuple):
    """The folder of all spools, and what starts a sender for one (None if it cannot)."""

    root: Path
    start_sender: Callable[[Path], BackgroundSender | None]


class Spool:
    """The writing side; one process at a time has a spool open.

    A disk that takes no more ends the tracking with one warning (`is_broken`), never the work that is tracked. Its end
    is still written, if there is space again: else a finished training would pass for a killed one. The hash of its
    model is not, so stage evaluate makes a run of the files, which have everything.

    Raises:
        LockedError: another process writes to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.is_broken, self._has_begun = folder, False, False
        self.fault = ""  # why it lacks something
        self._lock = FileLock(folder / WRITER_LOCK, timeout=SECONDS_FOR_A_LOOK)
        try:
            (folder / FILES).mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            if (events := folder / EVENTS).exists():
                content = events.read_bytes()
                if (whole := content.rfind(b"\n") + 1) < len(content):  # else its time stays that of the last event
                    os.truncate(events, whole)
                self._has_begun = whole > 0
        except Timeout:
            raise LockedError(f"{folder}: another process is writing to this spool: wait for it, or stop it") from None
        except OSError as error:
            self._give_up(error)

    def append(self, kind: str, **fields: Any) -> None:  # noqa: ANN401  # whatever JSON can hold
        """Write one of the events above; `time_ms` is now, unless given."""
        if self.is_broken and not (self._has_begun and kind == "end"):
            return
        try:
            append_event(self.folder, kind, **fields)
            self._has_begun = True
        except OSError as error:
            self._give_up(error)

    def keep(self, *files: Path) -> str | None:
        """Keep files as they are now; the name of a folder in `files/` that has them, or None if one cannot be read.

        They are linked where the system can do that, so they must not be changed in place (`atomic_file` does not).
        """
        try:
            folder = self._new_folder()
            for file in files:
                try:
                    (folder / file.name).hardlink_to(file.resolve())
                except OSError:  # another disk, or a system without links
                    shutil.copyfile(file, folder / file.name)
        except OSError as error:
            self.fault = f"{', '.join(map(str, files))} is not sent: {error.strerror}"
            log.warning("tracking: %s", self.fault)
            return None
        return folder.name

    def keep_text(self, name: str, text: str) -> str | None:
        """Keep `text` as a file of that name; the name of a folder in `files/` that has it, or None if it fails."""
        try:
            folder = self._new_folder()
            (folder / name).write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            self._give_up(error)
            return None
        return folder.name

    def close(self) -> None:
        """Release the spool, so that others can have it."""
        self._lock.release()

    def _new_folder(self) -> Path:
        files = self.folder / FILES
        numbers = [int(path.name) for path in files.iterdir() if path.name.isdecimal()]  # a kill may leave gaps
        folder = files / f"{max(numbers, default=-1) + 1:04d}"
        folder.mkdir()
        return folder

    def _give_up(self, error: OSError) -> None:
        if not self.is_broken:
            self.fault = f"{self.folder}: {error.strerror}"
            log.warning("tracking ends here, %s; nothing is lost: the files have everything", self.fault)
        self.is_broken = True


def append_event(spool: Path, kind: str, /, **fields: Any) -> None:  # noqa: ANN401  # whatever JSON can hold
    """Write one event to a spool in one piece: the stage and its sender both do.

    Raises:
        OSError: the disk takes no more.
    """
    event = {"kind": kind, "time_ms": now_ms(), **fields}
    # Of a name that is not UTF-8, Python makes characters that no file of JSON can have: they become `?`.
    line = json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode(errors="replace") + b"\n"
    with (spool / EVENTS).open("a+b", buffering=0) as events:
        if size := events.seek(0, os.SEEK_END):
            events.seek(size - 1)
            if events.read(1) != b"\n":  # a full disk has cut the last one, which becomes a damaged line of its own
                line = b"\n" + line
        if events.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_events(folder: Path, offset: int = 0) -> Iterator[tuple[Any, int]]:
    """The events of a spool's whole lines from `offset` on, and where the next line begins; None for a damaged line."""
    if not (folder / EVENTS).is_file():
        return
    with (folder / EVENTS).open("rb") as lines:
        lines.seek(offset)
        for line in lines:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            if line == b"\n":  # before an event that follows one that was cut
                continue
            try:
                yield _EVENT.validate_json(line), offset
            except ValidationError:
                yield None, offset


def start_of(folder: Path) -> Start | None:
    """The first start in the spool, if there is one yet."""
    return next((event for event, _ in read_events(folder) if isinstance(event, Start)), None)


def is_written(folder: Path) -> bool:
    """Whether a process has the spool open. In a folder that was just removed it makes no file, as `FileLock` would."""
    try:
        with (folder / WRITER_LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def last_steps(folder: Path) -> dict[str, int]:
    """The highest step of each metric in the spool: what a resumed training need not write again."""
    highest: dict[str, int] = {}
    for event, _ in read_events(folder):
        if isinstance(event, Metrics):
            for name, _, step, _ in event.points:
                highest[name] = max(step, highest.get(name, step))
    return highest


def status_of(folder: Path) -> str:
    """RUNNING if a training began that has not ended, or how it ended; "" for what adds to a run that others end."""
    status = ""
    for event, _ in read_events(folder):
        if isinstance(event, Start):
            status = "RUNNING" if event.is_open else ""
        elif isinstance(event, End) and not event.if_new:
            status = event.status
    return status


def now_ms() -> int:
    """Milliseconds since the epoch, as MLflow counts them."""
    return int(time.time() * 1000)
