"""Not a stage: the process that copies an unfinished training to a mirror while it runs, and back where it was lost.

A mirror is a folder on other disks, named by a URL of fsspec (`s3://bucket/prefix`, `gs://...`, `file:///...`) in
CHARLSTM_CHECKPOINT_MIRROR. Below it, each training has a folder with the name that it has in `.charlstm`:

    step-000000123.<training id>.<SHA-256>              the state of a checkpoint
    ...                                   .events.jsonl what MLflow is to have of its run by then
    ...                                   .sent.json    what MLflow has of it
    ...                                   .complete     empty, and written last: without it, none of them is there
    <training id>/0000/epoch-001.txt                    files that events name

A name has the hash of what it names, and the run that it is of. So machines that train the same thing never mix their
checkpoints, and none of them needs to know of the others: a start takes the newest. `pipeline.stage.mirroring` starts
this process.
"""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from fsspec.core import url_to_fs

from charlstm.errors import ChecksumError
from charlstm.files.atomic import atomic_folder, sha256, write_text
from charlstm.files.checksums import ABSENT, SUMS, read_sums, write_digests
from charlstm.tracking.outbox import EVENTS, FILES, Artifacts, Model, read_events
from charlstm.tracking.sender import SENT
from charlstm.training.checkpoint import NUM_KEPT, STATE
from pipeline.dvc.unfinished import TRAINING_ID
from pipeline.stage.background import has_stage_ended, work_in_background
from pipeline.stage.mirroring import FETCH, FOLLOW
from pipeline.stage.settings import MIRROR
from pipeline.stage.terminal import shown_error
from pipeline.stage.tracking_store import spool_root

log = logging.getLogger("charlstm")

STDOUT = 1
SECONDS_BETWEEN_LOOKS, MAX_SECONDS_BETWEEN_TRIES = 1.0, 60.0
COMPLETE = ".complete"
_NAME = re.compile(r"(step-\d{9})\.([0-9a-f]{32})\.([0-9a-f]{64})")
_FILE = re.compile(r"\d{4,}/[^/]+")  # that events name
PIECE = 5 * 2**20  # bytes of a request: S3 takes no smaller parts


class Copy(NamedTuple):
    """A checkpoint in the mirror."""

    checkpoint: str  # its name in `.charlstm`, which sorts by step
    training_id: str
    sha256: str

    @property
    def name(self) -> str:
        """Of its state."""
        return ".".join(self)


def say_alive() -> None:
    """Tell the process that may wait for this one that bytes are moving: a byte on standard output."""
    with contextlib.suppress(BlockingIOError, BrokenPipeError):  # it does not wait now, or is gone
        os.write(STDOUT, b".")


class Mirror:
    """The copies of one training at a URL.

    What fails raises what fsspec and its libraries raise, which may be anything.
    """

    def __init__(self, url: str, fingerprint: str) -> None:
        self._files, root = url_to_fs(url, use_listings_cache=False)  # others may write, too
        self._root = f"{root.rstrip('/')}/{fingerprint}"
        self._offset, self._named = 0, set[str]()  # of the events that were read, and what they name
        self._pushed: set[str] = set()  # of what they name

    def copies(self) -> list[Copy]:
        """All whole checkpoints, newest first."""
        return _copies(self._names())

    def push(self, checkpoint: Path, training_id: str, spool: Path) -> None:
        """Copy a checkpoint, and what its run has; then remove all but the newest."""
        copy = Copy(checkpoint.name, training_id, read_sums(checkpoint / SUMS)[STATE])
        if copy not in self.copies():
            self._put_file(checkpoint / STATE, copy.name)
        try:
            self._push_spool(copy, spool)
        except FileNotFoundError:
            if (spool / EVENTS).is_file():
                raise  # else all of it is sent, and the sender has just removed it
        self._files.pipe_file(self._path(copy.name + COMPLETE), b"")
        say_alive()
        self._remove_old()

    def pull(self, copy: Copy, folder: Path, spools: Path) -> None:
        """Copy what its run has, and a checkpoint into the folder of its training: both, or no checkpoint.

        Raises:
            ChecksumError: it is not what it was.
        """
        with atomic_folder(folder / copy.checkpoint) as temporary:
            self._get(copy.name, temporary / STATE)
            if (found := sha256(temporary / STATE)) != copy.sha256:
                raise ChecksumError(f"{copy.checkpoint} is damaged: expected SHA-256 {copy.sha256}, found {found}")
            write_digests(temporary / SUMS, {STATE: copy.sha256})
            self._pull_spool(copy, spools / copy.training_id)
            write_text(folder / TRAINING_ID, f"{copy.training_id}\n")

    def give_up(self, copy: Copy) -> None:
        """Remove a damaged checkpoint: it would pass for the newest."""
        self._remove([copy.name, copy.name + COMPLETE])

    def clear(self) -> None:
        """Remove all checkpoints."""
        self._remove(name for name in self._names() if _NAME.match(name))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _put_file(self, file: Path, name: str) -> None:
        with file.open("rb") as source:
            self._put(source, name)

    def _put(self, source: BinaryIO, name: str) -> None:
        path = self._path(name)
        if path.startswith("/"):  # elsewhere are no folders to make
            self._files.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        with self._files.open(path, "wb", block_size=PIECE) as target:
            _copy(source, target)

    def _get(self, name: str, file: Path) -> None:
        with self._files.open(self._path(name), "rb", block_size=PIECE) as source, file.open("wb") as target:
            _copy(source, target)

    def _names(self) -> set[str]:
        """Of the files in the training's folder."""
        self._files.invalidate_cache()
        try:
            listed = self._files.ls(self._root, detail=False)
        except FileNotFoundError:
            return set()
        return {PurePosixPath(path).name for path in listed}

    def _remove_old(self) -> None:
        """Keep the newest checkpoints, and states that may be on their way."""
        oldest_kept = _copies(names := self._names())[:NUM_KEPT][-1].checkpoint
        self._remove(name for name in names if _NAME.match(name) and name[: len(oldest_kept)] < oldest_kept)

    def _remove(self, names: Iterable[str]) -> None:
        for name in sorted(names, key=lambda name: not name.endswith(COMPLETE)):  # first what says that all is there
            with contextlib.suppress(FileNotFoundError):  # another machine has removed it
                self._files.rm_file(self._path(name))

    def _push_spool(self, copy: Copy, spool: Path) -> None:
        """Copy the events, and how many of them are sent; first the files that they name."""
        if not (spool / EVENTS).is_file():
            return
        sent = (spool / SENT).read_bytes() if (spool / SENT).is_file() else None  # before the events: it is of a part
        events = (spool / EVENTS).read_bytes()
        for event, end in read_events(spool, self._offset):
            self._offset = end
            if isinstance(event, Artifacts | Model):
                self._named.add(event.files)
        for name in sorted(self._named - self._pushed):
            for file in sorted((spool / FILES / name).iterdir()):
                self._put_file(file, f"{copy.training_id}/{name}/{file.name}")
            self._pushed.add(name)
        self._put(BytesIO(events[: events.rfind(b"\n") + 1]), f"{copy.name}.{EVENTS}")  # days of them are large
        if sent is not None:
            self._files.pipe_file(self._path(f"{copy.name}.{SENT}"), sent)

    def _pull_spool(self, copy: Copy, spool: Path) -> None:
        """What the mirror has of a run takes the place of what this machine has of it."""
        if f"{copy.name}.{EVENTS}" not in (names := self._names()):
            return
        root = PurePosixPath(self._path(copy.training_id))
        files = [str(PurePosixPath(path).relative_to(root)) for path in self._files.find(str(root))]
        spool.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(spool) as new:
            for name in filter(_FILE.fullmatch, files):  # none that leads elsewhere
                (new / FILES / name).parent.mkdir(parents=True, exist_ok=True)
                self._get(f"{copy.training_id}/{name}", new / FILES / name)
            for name in (EVENTS, SENT):
                if f"{copy.name}.{name}" in names:
                    self._get(f"{copy.name}.{name}", new / name)


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    while piece := source.read(PIECE):
        target.write(piece)
        say_alive()


def _copies(names: set[str]) -> list[Copy]:
    found = [Copy(*match.groups()) for name in names if (match := _NAME.fullmatch(name))]
    return sorted((copy for copy in found if copy.name + COMPLETE in names), reverse=True)


# What the process does.


def fetch(mirror: Mirror, folder: Path, spools: Path) -> None:
    """Take the newest whole checkpoint of the mirror, if none in the folder is as new.

    Raises:
        OSError: this machine's disk is full, or the like.
    """
    own = _newest_whole(folder)
    for copy in mirror.copies():
        if copy.checkpoint <= own:
            return
        try:
            mirror.pull(copy, folder, spools)
        except (ChecksumError, ValueError, FileNotFoundError) as error:
            log.warning("a checkpoint in the mirror is left out: %s", _shown(error))
            if isinstance(error, ChecksumError):
                mirror.give_up(copy)
            continue
        log.info("the mirror has a newer checkpoint than this machine: %s", copy.checkpoint)
        return


def follow(open_mirror: Callable[[], Mirror], folder: Path, spools: Path, has_ended: Callable[[float], bool]) -> bool:
    """Copy each new checkpoint until the training has ended; whether the last one was copied."""
    mirror: Mirror | None = None
    pushed, pause, is_failing, is_over = "", SECONDS_BETWEEN_LOOKS, False, False
    while not is_over:
        is_over = has_ended(pause)
        newest = max((path.name for path in folder.glob("step-*")), default="")
        if not newest or (newest == pushed and not is_over):
            continue
        try:
            mirror = mirror or open_mirror()
            training_id = (folder / TRAINING_ID).read_text().strip()
            mirror.push(folder / newest, training_id, spools / training_id)
        except Exception as error:  # whatever a server, a library or a disk can raise
            if not is_failing:
                log.warning(
                    "the mirror has no copy of %s: %s; training goes on, and this is tried again", newest, _shown(error)
                )
            is_failing, pause = True, min(2 * pause, MAX_SECONDS_BETWEEN_TRIES)
            continue
        if is_failing:
            log.info("the mirror has %s now", newest)
        pushed, pause, is_failing = newest, SECONDS_BETWEEN_LOOKS, False
    return not is_failing


def _shown(error: Exception) -> str:
    return shown_error(error, os.environ.get(MIRROR, ""))


def _newest_whole(folder: Path) -> str:
    """The newest checkpoint of this machine that is what its checksum says; empty if there is none.

    One that cannot be read now may be whole: nothing older takes its place.
    """
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            if read_sums(path / SUMS) == {STATE: sha256(path / STATE)}:
                return path.name
        except (*ABSENT, ChecksumError):
            continue
        except OSError:
            return path.name
    return ""


def main(argv: Sequence[str]) -> int:
    """Do `argv[0]` for the training whose folder in `.charlstm` is `argv[1]`."""
    os.set_blocking(STDOUT, False)
    return work_in_background(lambda: _work(argv[0], Path(argv[1])))


def _work(what: str, folder: Path) -> int:
    def open_mirror() -> Mirror:
        return Mirror(os.environ[MIRROR], folder.name)

    if what == FOLLOW:
        return 0 if follow(open_mirror, folder, spool_root(), has_stage_ended) else 1
    try:
        if what == FETCH:
            fetch(open_mirror(), folder, spool_root())
        else:
            open_mirror().clear()
    except Exception as error:
        log.warning("the mirror cannot be used now: %s", _shown(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
