"""Not a stage: copies of an unfinished training's checkpoints on other disks, in case its machine vanishes.

In the folder that CHARLSTM_CHECKPOINT_MIRROR names, each training has one, with two files for each copy:

    step-000000123.<training id>.<SHA-256>.state.safetensors
    step-000000123.<training id>.<SHA-256>.SHA256SUMS           written last: without it, there is no copy
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
from charlstm.training.checkpoint_folder import STATE, CheckpointFolder, read_checkpoint
from pipeline.run.project import seconds
from pipeline.run.terminal import shown_error
from pipeline.run.unfinished import TRAINING_ID

log = logging.getLogger("charlstm")

SECONDS_BETWEEN_LOOKS, SECONDS_AFTER_FAILURE = 1.0, 30.0
PIECE = 5 * 2**20  # bytes that are asked for at once
FILE = re.compile(r"step-\d{9}\.[0-9a-f]{32}\.[0-9a-f]{64}\.")
T = TypeVar("T")


class CheckpointMirror:
    """A context in which new checkpoints in `folder`, that of a training, are copied to a URL.

    At its start, the newest copy is fetched; if the training `is_anew`, all are removed. Errors cost one warning.
    """

    def __init__(self, url: str, folder: Path, *, is_anew: bool = False) -> None:
        self.url, self.folder, self._is_anew = url, folder, is_anew
        self._seconds = seconds("CHARLSTM_CHECKPOINT_MIRROR_SECONDS")
        self._has_ended, self._has_warned = Event(), False
        self._copied = ""  # the newest checkpoint that the mirror has
        self._thread = Thread(
            target=self._follow, daemon=True
        )  # for which the process's end does not wait

    def __enter__(self) -> None:
        CheckpointFolder(self.folder, 0).newest()  # puts damaged ones aside
        try:
            files = self._ask(self._files)
            if self._is_anew:
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
                "the mirror has no copy of the last checkpoint, %s: it is on this machine only",
                newest,
            )

    def put(self, checkpoint: Path) -> None:
        """Copy a checkpoint, and remove copies that are older than the one before it."""
        sums, training_id = (
            (checkpoint / SUMS).read_bytes(),
            (self.folder / TRAINING_ID).read_text().strip(),
        )
        name = f"{checkpoint.name}.{training_id}.{read_sums(checkpoint / SUMS)[STATE]}"
        (fs, root), there = self._open(), self._files()
        if f"{name}.{SUMS}" not in there:
            if root.startswith("/"):  # elsewhere are no folders to make
                fs.makedirs(root, exist_ok=True)
            fs.put_file(str(checkpoint / STATE), f"{root}/{name}.{STATE}")
            fs.pipe_file(f"{root}/{name}.{SUMS}", sums)
        self._remove([file for file in there if file < self._copied])
        self._copied = checkpoint.name

    def _follow(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._has_ended.wait(SECONDS_BETWEEN_LOOKS)
            if (newest := self._newest()) > self._copied:
                try:
                    self.put(self.folder / newest)
                except Exception as error:
                    if (self.folder / newest).exists():  # else there is a newer one
                        self._warn(error)
                        self._has_ended.wait(SECONDS_AFTER_FAILURE)

    def _newest(self) -> str:
        return max((path.name for path in self.folder.glob("step-*")), default="")

    def _fetch(self, copies: Sequence[str]) -> None:
        fs, root = self._ask(self._open)
        for sums in copies:
            checkpoint, training_id, _ = sums.split(".", 2)
            if checkpoint <= self._newest():
                return
            try:
                with atomic_folder(self.folder / checkpoint) as temporary:
                    (temporary / SUMS).write_bytes(self._ask(fs.cat_file, f"{root}/{sums}"))
                    state = self._ask(
                        fs.open, f"{root}/{sums.removesuffix(SUMS)}{STATE}", "rb", PIECE
                    )
                    with state, (temporary / STATE).open("wb") as target:
                        while piece := self._ask(state.read, PIECE):
                            target.write(piece)
                    read_checkpoint(temporary)
                    write_text(self.folder / TRAINING_ID, f"{training_id}\n")
                log.info("the mirror has a newer checkpoint than this machine: %s", checkpoint)
                self._copied = checkpoint
            except TimeoutError:
                raise
            except Exception as error:  # whatever a file system makes of an odd item
                log.warning(
                    "cannot read %s from the mirror; skipped: %s",
                    checkpoint,
                    shown_error(error, self.url),
                )

    def _open(self) -> tuple[Any, str]:
        fs, root = url_to_fs(self.url, use_listings_cache=False)  # others write, too
        return fs, f"{root.rstrip('/')}/{self.folder.name}"

    def _files(self) -> list[str]:
        fs, root = self._open()
        with contextlib.suppress(FileNotFoundError):
            return sorted(
                name
                for path in fs.ls(root, detail=False)
                if FILE.match(name := path.rpartition("/")[2])
            )
        return []

    def _remove(self, files: Sequence[str]) -> None:
        fs, root = self._open()
        for file in files:  # the checksums first
            with contextlib.suppress(
                FileNotFoundError, IsADirectoryError
            ):  # another machine has removed it
                fs.rm_file(f"{root}/{file}")

    def _ask(self, work: Callable[..., T], *arguments: object) -> T:
        return answer_within(self._seconds, lambda: work(*arguments))

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            log.warning(
                "the mirror of checkpoints fails: %s; training goes on",
                shown_error(error, self.url),
            )
        self._has_warned = True
