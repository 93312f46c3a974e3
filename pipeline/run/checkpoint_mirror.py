"""The checkpoint mirror: copies of checkpoints, in case a training's machine is lost.

The folder at the URL in CHARLSTM_CHECKPOINT_MIRROR has a folder for each training, with two files
for each copy. The checksums are written last. A copy without checksums does not count.

    step-000000123.<training id>.<SHA-256>.state.safetensors
    step-000000123.<training id>.<SHA-256>.SHA256SUMS
"""

import contextlib
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

from fsspec.core import url_to_fs

from charlstm.files.atomic import atomic_folder, write_text
from charlstm.files.checksums import SUMS, read_sums
from charlstm.files.deadline import answer_within
from charlstm.training.checkpoint import STATE, CheckpointFolder, read_checkpoint
from pipeline.run.settings import seconds
from pipeline.run.terminal import shown_error
from pipeline.run.unfinished import TRAINING_ID

log = logging.getLogger("charlstm")

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_AFTER_FAILURE = 30.0
PIECE = 5 * 2**20  # bytes read in one request, which has its own timeout
FILE = re.compile(r"step-\d{9}\.[0-9a-f]{32}\.[0-9a-f]{64}\.")
T = TypeVar("T")


class CheckpointMirror:
    """A context manager that copies new checkpoints from a training's `folder` to a URL.

    At the start, it fetches the newest copy, or removes all copies if the training `is_repeated`
    (it had finished before). Errors cost one warning.
    """

    def __init__(self, url: str, folder: Path, *, is_repeated: bool = False) -> None:
        self.url = url
        self.folder = folder
        self._is_repeated = is_repeated
        self._seconds = seconds("CHARLSTM_CHECKPOINT_MIRROR_SECONDS")
        self._has_ended = Event()
        self._has_warned = False
        self._copied = ""  # name of the newest checkpoint in the mirror
        # A daemon thread, because a store that does not answer must not delay the process's end.
        self._thread = Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        # Move damaged checkpoints aside. Otherwise, their intact copies would not be fetched.
        CheckpointFolder(self.folder, 0).newest()
        try:
            files = self._ask(self._files)
            if self._is_repeated:
                self._ask(self._remove, files)
            else:
                self._fetch([file for file in reversed(files) if file.endswith(SUMS)])
        except Exception as error:
            self._warn(error)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        self._thread.join(self._seconds)
        if (newest := self._newest()) > self._copied:
            log.warning(
                "the mirror has no copy of the last checkpoint, %s: only this machine has it",
                newest,
            )

    def put(self, checkpoint: Path) -> None:
        """Copy a checkpoint to the mirror. Remove all copies except this and the previous one."""
        fs, root = self._open()
        copies = self._files()
        training_id = (self.folder / TRAINING_ID).read_text().strip()
        name = f"{checkpoint.name}.{training_id}.{read_sums(checkpoint / SUMS)[STATE]}"
        if f"{name}.{SUMS}" not in copies:
            if root.startswith("/"):  # object stores have no folders to create
                fs.makedirs(root, exist_ok=True)
            fs.put_file(str(checkpoint / STATE), f"{root}/{name}.{STATE}")
            fs.put_file(str(checkpoint / SUMS), f"{root}/{name}.{SUMS}")
        self._remove([file for file in copies if file < self._copied])
        self._copied = checkpoint.name

    def _follow(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._has_ended.wait(SECONDS_BETWEEN_LOOKS)
            if (newest := self._newest()) > self._copied:
                try:
                    self.put(self.folder / newest)
                except Exception as error:
                    # It is not an error if training removes an old checkpoint during the copy.
                    if (self.folder / newest).exists():
                        self._warn(error)
                        self._has_ended.wait(SECONDS_AFTER_FAILURE)

    def _newest(self) -> str:
        return max((path.name for path in self.folder.glob("step-*")), default="")

    def _fetch(self, copies: Sequence[str]) -> None:
        """Fetch the mirror's newest complete checkpoint if it is newer than the local checkpoints.

        `copies` has the names of checksum files, newest first.
        """
        fs, root = self._ask(self._open)
        for sums in copies:
            checkpoint, training_id, _ = sums.split(".", 2)
            if checkpoint <= self._newest():
                return
            try:
                with atomic_folder(self.folder / checkpoint) as temporary:
                    (temporary / SUMS).write_bytes(self._ask(fs.cat_file, f"{root}/{sums}"))
                    copy = f"{root}/{sums.removesuffix(SUMS)}{STATE}"
                    with (
                        self._ask(fs.open, copy, "rb", PIECE) as source,
                        (temporary / STATE).open("wb") as target,
                    ):
                        while piece := self._ask(source.read, PIECE):
                            target.write(piece)
                    read_checkpoint(temporary)
                    write_text(self.folder / TRAINING_ID, f"{training_id}\n")
                log.info("the mirror has a newer checkpoint than this machine: %s", checkpoint)
                self._copied = checkpoint
            except TimeoutError:
                raise
            except Exception as error:  # file systems raise many kinds of errors for a bad copy
                log.warning(
                    "cannot read %s from the mirror; skipped: %s",
                    checkpoint,
                    shown_error(error, self.url),
                )

    def _open(self) -> tuple[Any, str]:
        # Do not cache the list of files, because other machines write to the mirror, too.
        fs, root = url_to_fs(self.url, use_listings_cache=False)
        return fs, f"{root.rstrip('/')}/{self.folder.name}"

    def _files(self) -> list[str]:
        fs, root = self._open()
        try:
            paths = fs.ls(root, detail=False)
        except FileNotFoundError:
            return []
        return sorted(filter(FILE.match, (path.rpartition("/")[2] for path in paths)))

    def _remove(self, files: Sequence[str]) -> None:
        """Remove `files` from the mirror in the given order: checksums before their checkpoint."""
        fs, root = self._open()
        for file in files:
            # Another machine may have removed the file in the meantime.
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                fs.rm_file(f"{root}/{file}")

    def _ask(self, work: Callable[..., T], *arguments: object) -> T:
        return answer_within(self._seconds, lambda: work(*arguments))

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            log.warning(
                "the checkpoint mirror failed: %s; training continues",
                shown_error(error, self.url),
            )
        self._has_warned = True
