"""A folder of checkpoints, from which an unfinished training resumes as if it had never stopped.

A checkpoint is a folder `step-N` with `state.safetensors` and its SHA-256. The file has tensors,
and all other values as JSON in its header. The folder is written under a temporary name, synced and
renamed. A damaged checkpoint is reported and moved aside, and the checkpoint before it is used.
No file is pickled.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import safe_open
from torch import Tensor

from charlstm.errors import CharlstmError, ChecksumError
from charlstm.files.atomic import atomic_folder
from charlstm.files.checksums import ABSENT, SUMS, read_sums, sha256, write_sums

log = logging.getLogger(__name__)
STATE = "state.safetensors"
NUM_KEPT = 2  # checkpoints: the newest, and the one before it in case the newest is damaged


class Checkpoint(NamedTuple):
    """The state after a whole number of steps: tensors on the CPU, and all other values as JSON."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """Return the checkpoint as a safetensors file."""
        contiguous = {name: tensor.contiguous() for name, tensor in self.tensors.items()}
        return bytes(safetensors.torch.save(contiguous, {"metadata": json.dumps(self.metadata)}))


def read_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint in `folder`.

    Raises:
        ChecksumError: the checkpoint is damaged or incomplete.
        OSError: the checkpoint cannot be read now, but may be whole.
    """
    file = folder / STATE
    try:
        if read_sums(folder / SUMS) != {STATE: sha256(file)}:
            raise ChecksumError(f"{STATE} does not match {SUMS}")
        # Tensors are copied to memory, because the file may be removed while they are in use.
        tensors = safetensors.torch.load(file.read_bytes())
        with safe_open(file, "pt") as header:
            return Checkpoint(tensors, json.loads(header.metadata()["metadata"]))
    except ABSENT as error:
        raise ChecksumError(str(error)) from None


class CheckpointFolder:
    """The checkpoints of one training. Only process 0 writes and reads them.

    One training at a time may use a folder.

    Args:
        folder: must be named by everything that decides the result, so that changed inputs never
            meet an old state.
        seconds_between: time from one checkpoint to the next.
    """

    def __init__(self, folder: Path, seconds_between: float) -> None:
        self.folder = folder
        self.seconds_between = seconds_between
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def newest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint. Return None if there is none.

        Move damaged checkpoints aside with a warning. Remove checkpoints that a killed process left
        incomplete.

        Raises:
            CharlstmError: a checkpoint cannot be read now, but may be whole. It stays in place, so
                that a later start finds it.
        """
        for leftover in self.folder.glob(".step-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        found = sorted(self.folder.glob("step-*"), reverse=True)
        for path in found:
            try:
                return read_checkpoint(path)
            except ChecksumError as error:
                reason = " ".join(str(error).split())[:300]
            except OSError as error:
                raise CharlstmError(
                    f"the checkpoint {path} cannot be read ({error.strerror}), but may be whole: "
                    "run the same command again when the disk can be read, or move the checkpoint "
                    "away to resume from the one before it"
                ) from None
            log.warning(
                "the checkpoint %s is damaged (%s); "
                "training resumes from the one before it, if there is one",
                path,
                reason,
            )
            # Kept for inspection, under a name that does not block a new checkpoint of this step.
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
        if found:
            log.warning("no whole checkpoint is left in %s", self.folder)
        return None

    def save(self, step: int, checkpoint: Checkpoint) -> None:
        """Start to write in the background, after the previous write is complete.

        Raises:
            OSError: the previous write failed. Older checkpoints are unchanged.
        """
        self.wait()
        self._pending = self._writer.submit(self._write, step, checkpoint)

    @property
    def is_writing(self) -> bool:
        """True while the last checkpoint is not on disk yet."""
        return self._pending is not None and not self._pending.done()

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk.

        Raises:
            OSError: it could not be written. Older checkpoints are unchanged.
        """
        if self._pending is not None:
            pending = self._pending
            self._pending = None  # so that a failure is reported once
            pending.result()

    def _write(self, step: int, checkpoint: Checkpoint) -> None:
        with atomic_folder(self.folder / f"step-{step:09d}") as temporary:
            (temporary / STATE).write_bytes(checkpoint.to_bytes())
            write_sums(temporary / SUMS, [STATE])
        for old in sorted(self.folder.glob("step-*"), reverse=True)[NUM_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
